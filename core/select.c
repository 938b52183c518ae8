/* core/select.c: see select.h. */
#include "core/select.h"

/* What is below key goes; of what is equal to it the first that `left` is enough for. */
struct cut { uint32_t key; uint64_t left; bool nearest; };

static uint64_t amount_of(const struct span *s, size_t i) { return s->size ? s->size[i] * s->each : s->each; }

/* Digit by digit, from the top: how much has this prefix? */
static struct cut find_cut(const struct span *s, int n_spans, uint64_t amount, bool nearest)
{
    uint32_t prefix = 0, known = 0;

    for (int shift = 24; shift >= 0; shift -= 8) {
        uint64_t count[256] = { 0 };
        uint32_t d = 0;

        for (int j = 0; j < n_spans; j++)
            for (size_t i = 0; i < s[j].n; i++)
                if ((s[j].key[i] & known) == prefix)
                    count[s[j].key[i] >> shift & 255] += amount_of(&s[j], i);
        for (; d < 255 && count[d] <= amount; d++)
            amount -= count[d];
        prefix |= d << shift;
        known |= 255u << shift;
    }
    return (struct cut){ prefix, amount, nearest };
}

static bool goes(struct cut *c, uint32_t key, uint64_t amount)
{
    if (key == KEY_GOES || key == KEY_STAYS || key != c->key)
        return key == KEY_GOES || (key != KEY_STAYS && key < c->key);
    if (c->nearest ? amount > 2 * c->left : amount > c->left) {
        c->left = 0;
        return false;
    }
    c->left -= amount < c->left ? amount : c->left;
    return true;
}

void select_smallest(const struct span *s, int n_spans, uint64_t amount)
{
    struct cut c = find_cut(s, n_spans, amount, true);

    for (int j = 0; j < n_spans; j++)
        for (size_t i = 0; i < s[j].n; i++)
            s[j].key[i] = goes(&c, s[j].key[i], amount_of(&s[j], i)) ? KEY_GOES : KEY_STAYS;
}

void select_protect(const struct span *s, uint64_t amount)
{
    struct cut c = find_cut(s, 1, amount, false);

    for (size_t i = 0; i < s->n; i++)
        if (!goes(&c, s->key[i], amount_of(s, i)))
            s->key[i] = KEY_STAYS;
}

void select_force(const struct span *s, uint64_t amount)
{
    struct cut c = find_cut(s, 1, amount, true);

    for (size_t i = 0; i < s->n; i++)
        if (goes(&c, s->key[i], amount_of(s, i)))
            s->key[i] = KEY_GOES;
}

void select_protect_few(uint32_t *key, size_t n_keys, size_t n)
{
    uint64_t stays = 0; /* bits: at most 64 keys */

    for (size_t i = 0; i < n_keys; i++) {
        size_t before = 0;

        for (size_t j = 0; j < n_keys; j++)
            before += key[j] < key[i] || (key[j] == key[i] && j < i);
        stays |= (uint64_t)(before >= n && key[i] != KEY_GOES) << i;
    }
    for (size_t i = 0; i < n_keys; i++)
        if (stays >> i & 1)
            key[i] = KEY_STAYS;
}
