/* core/document.c: a whole model as one JSON document, for clients that have nothing but JSON: {"architecture": <Keras JSON>, "weights":
 * {name: {"shape", "data"}}}; see model.h.
 *
 * Read in two passes over the text where it lies. The first finds the parts, so that their order is free, and proves the text to be JSON;
 * the second reads numbers straight into the net: no copy of the weights' text is ever made. Only the architecture, which is small, goes
 * through Jansson. */
#include "core/model.h"

#include <math.h>
#include <nettle/base64.h>
#include <string.h>

#include "core/jsonread.h"
#include "core/mem.h"

enum { DEPTH = 32, NAME_MAX_LEN = 600, BLOCK = 4096 /* characters of base64: 768 floats */ };

/* ---- first pass: where the parts are ---- */

struct part {
    bool found;
    size_t first, end;
};
struct parts {
    struct part architecture, weights;
    bool bare; /* there is something else: a Keras JSON itself, or a mistake */
    char other[NAME_MAX_LEN];
    size_t n_tokens; /* still allowed outside "weights" */
};

/* Numbers are not counted: a million of them in nested arrays is as it should be. */
static enum err_code pass_weight(void *user, struct json_scan *s, const char *key, struct err *e)
{
    size_t n = SIZE_MAX;

    (void)user, (void)key;
    return scan_skip(s, DEPTH - 2, &n, e);
}

static enum err_code pass_part(void *user, struct json_scan *s, const char *key, struct err *e)
{
    struct parts *p = user;
    struct json_token t;
    struct part *part = strcmp(key, "architecture") == 0 ? &p->architecture : strcmp(key, "weights") == 0 ? &p->weights : NULL;
    enum err_code rc = scan_peek(s, &t, e);

    if (rc != ERR_OK)
        return rc;
    if (part && part->found)
        return err_set(e, ERR_SYNTAX, "stands twice");
    if (!part && !p->bare)
        snprintf(p->other, sizeof p->other, "%s", key);
    if (!part)
        p->bare = true;
    rc = part == &p->weights ? scan_members(s, pass_weight, NULL, e) : scan_skip(s, DEPTH - 1, &p->n_tokens, e);
    if (part)
        *part = (struct part){ true, t.first, s->at };
    return rc;
}

static enum err_code find_parts(struct parts *p, const char *text, size_t n, struct err *e)
{
    struct json_scan s = { text, n, 0 };
    struct json_token t;
    enum err_code rc = scan_members(&s, pass_part, p, e);

    if (rc == ERR_OK)
        rc = scan_expect(&s, SCAN_END, &t, e);
    if (rc != ERR_OK)
        return rc;
    if (p->bare && (p->architecture.found || p->weights.found)) {
        char at[sizeof e->at] = "";

        err_step(at, sizeof at, p->other);
        return err_field(e, ERR_INVALID, at, "unknown field: a document has \"architecture\" and \"weights\"");
    }
    if (!p->bare && !p->architecture.found)
        return err_field(e, ERR_INVALID, "/architecture", "is required");
    if (p->bare)
        p->architecture = (struct part){ true, 0, n };
    return ERR_OK;
}

static enum err_code read_architecture(struct model *out, const char *text, const struct parts *p, struct err *e)
{
    size_t n = p->architecture.end - p->architecture.first;
    json_t *doc = NULL;
    enum err_code rc;

    if (n > MODEL_MAX_TEXT)
        rc = err_set(e, ERR_TOO_LARGE, "the architecture has more than %d bytes", MODEL_MAX_TEXT);
    else
        rc = json_read(&doc, text + p->architecture.first, n, MODEL_MAX_TOKENS, e);
    if (rc == ERR_OK)
        rc = keras_read(out, doc, e);
    json_decref(doc);
    return rc == ERR_OK || p->bare ? rc : err_at(e, rc, "/architecture");
}

/* ---- second pass: the numbers ---- */

struct reader {
    struct net *net;
    bool *seen;    /* for each weight */
    struct part shape, data; /* of the weight being read */
};

static enum err_code put(void *user, size_t i, float x, struct err *e)
{
    struct weight *w = user;

    if (!isfinite(x))
        return err_set(e, ERR_INVALID, "number %zu is not finite as float32", i);
    w->x[model_weight_place(w, i)] = x;
    return ERR_OK;
}

static enum err_code read_shape(struct json_scan *s, const struct weight *w, struct err *e)
{
    struct shape want = model_weight_shape(w), is = { 0 };
    char text[96];
    bool more, fits = true;
    struct json_token t;
    enum err_code rc = scan_next(s, &t, e);

    if (rc == ERR_OK && t.kind != '[')
        return err_field(e, ERR_INVALID, "/shape", "must be an array of integers");
    for (bool first = true; rc == ERR_OK; first = false) {
        long d = 0;

        rc = scan_more(s, ']', first, &more, e);
        if (rc != ERR_OK || !more)
            break;
        rc = scan_next(s, &t, e);
        for (size_t i = t.first; i < t.end && d >= 0 && d <= INT32_MAX; i++)
            d = s->text[i] >= '0' && s->text[i] <= '9' ? 10 * d + (s->text[i] - '0') : -1;
        if (rc == ERR_OK && (t.kind != '0' || d < 1 || d > INT32_MAX))
            return err_field(e, ERR_INVALID, "/shape", "must be an array of integers of at least 1");
        fits = fits && is.n_d < want.n_d && d == want.d[is.n_d];
        is.n_d++;
    }
    if (rc == ERR_OK && !(fits && is.n_d == want.n_d))
        return err_field(e, ERR_INVALID, "/shape", "must be the model's: %s", shape_text(&want, text, sizeof text));
    return rc;
}

/* One character of a JSON string at *i, behind which *i is left. Some writers escape '/' and '+'. 0: none of base64's. */
static char next_char(const char *text, size_t *i)
{
    unsigned code = 0;

    if (text[*i] != '\\')
        return text[(*i)++];
    if (text[*i + 1] == '/') {
        *i += 2;
        return '/';
    }
    if (text[*i + 1] != 'u')
        return 0;
    for (size_t k = *i + 2; k < *i + 6; k++)
        code = code * 16 + (unsigned)(text[k] <= '9' ? text[k] - '0' : (text[k] | 32) - 'a' + 10);
    *i += 6;
    return code < 128 ? (char)code : 0;
}

static bool in_alphabet(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/' || c == '=';
}

/* Decodes n characters into whole floats. */
static enum err_code decode_block(struct base64_decode_ctx *ctx, const char *block, size_t n, struct weight *w, size_t *at, struct err *e)
{
    uint8_t bytes[BASE64_DECODE_LENGTH(BLOCK)];
    size_t n_bytes = sizeof bytes;
    enum err_code rc = ERR_OK;

    if (!base64_decode_update(ctx, &n_bytes, bytes, n, block))
        return err_set(e, ERR_INVALID, "is not base64: wrong padding");
    for (size_t k = 0; k + sizeof(float) <= n_bytes && *at < w->len && rc == ERR_OK; k += sizeof(float)) {
        float x;

        memcpy(&x, bytes + k, sizeof x);
        rc = put(w, (*at)++, x, e);
    }
    return rc;
}

/* The text between the quotes. Its length is known from the shape before anything is decoded. */
static enum err_code read_base64(const char *text, size_t first, size_t end, struct weight *w, struct err *e)
{
    size_t want = (w->len * sizeof(float) + 2) / 3 * 4, n = 0, at = 0;
    struct base64_decode_ctx ctx;
    char block[BLOCK];
    enum err_code rc = ERR_OK;

    base64_decode_init(&ctx);
    for (size_t i = first; i < end && rc == ERR_OK;) {
        char c = next_char(text, &i);

        if (!in_alphabet(c))
            return err_set(e, ERR_INVALID, "is not base64: character %zu is not of its alphabet", n);
        if (n == want)
            return err_set(e, ERR_INVALID, "holds more than the %zu characters of base64 that the shape needs", want);
        block[n++ % BLOCK] = c;
        if (n % BLOCK == 0 || n == want)
            rc = decode_block(&ctx, block, (n - 1) % BLOCK + 1, w, &at, e);
    }
    if (rc == ERR_OK && n < want)
        return err_set(e, ERR_INVALID, "holds %zu characters of base64, but the shape needs %zu", n, want);
    if (rc == ERR_OK && (at != w->len || !base64_decode_final(&ctx)))
        return err_set(e, ERR_INVALID, "is not base64: wrong padding");
    return rc;
}

static enum err_code read_data(struct json_scan *s, struct weight *w, struct err *e)
{
    struct shape shape = model_weight_shape(w);
    struct json_token t;
    enum err_code rc = scan_peek(s, &t, e);

    if (rc == ERR_OK && t.kind == '"')
        rc = read_base64(s->text, t.first + 1, t.end - 1, w, e);
    else if (rc == ERR_OK && t.kind == '[')
        rc = scan_numbers(s, &shape, put, w, e);
    else if (rc == ERR_OK)
        rc = err_set(e, ERR_INVALID, "must be base64 of float32, or nested arrays of numbers");
    return rc == ERR_OK ? rc : err_at(e, rc, "/data");
}

static enum err_code pass_field(void *user, struct json_scan *s, const char *key, struct err *e)
{
    struct reader *r = user;
    struct part *part = strcmp(key, "shape") == 0 ? &r->shape : strcmp(key, "data") == 0 ? &r->data : NULL;
    size_t n = SIZE_MAX;

    if (!part)
        return err_set(e, ERR_INVALID, "unknown field: a weight has \"shape\" and \"data\"");
    if (part->found)
        return err_set(e, ERR_SYNTAX, "stands twice");
    *part = (struct part){ .found = true, .first = s->at };
    return scan_skip(s, DEPTH - 3, &n, e);
}

static enum err_code read_weight(void *user, struct json_scan *s, const char *key, struct err *e)
{
    struct reader *r = user;
    struct weight *w = model_weight(r->net, key);
    struct json_scan at = *s;
    size_t tokens = SIZE_MAX;
    enum err_code rc;

    if (model_passes_over(r->net, key))
        return scan_skip(s, DEPTH - 2, &tokens, e);
    if (!w)
        return err_set(e, ERR_INVALID, "weight \"%.100s\" is not in the model", key);
    if (r->seen[w - r->net->weight])
        return err_set(e, ERR_INVALID, "weight \"%.100s\" stands twice", key);
    r->seen[w - r->net->weight] = true;
    r->shape = r->data = (struct part){ 0 };
    rc = scan_members(s, pass_field, r, e);
    if (rc != ERR_OK)
        return rc;
    if (!r->shape.found || !r->data.found)
        return err_field(e, ERR_INVALID, r->shape.found ? "/data" : "/shape", "is required");
    at.at = r->shape.first;
    rc = read_shape(&at, w, e);
    at.at = r->data.first;
    return rc == ERR_OK ? read_data(&at, w, e) : rc;
}

static enum err_code read_weights(struct net *net, const char *text, size_t n, const struct part *part, struct err *e)
{
    struct json_scan s = { text, n, part->first };
    struct reader r = { .net = net, .seen = mem_zalloc((size_t)net->n_weights, sizeof(bool)) };
    enum err_code rc = r.seen ? scan_members(&s, read_weight, &r, e) : err_set(e, ERR_NOMEM, "out of memory");

    for (int i = 0; i < net->n_weights && rc == ERR_OK; i++)
        if (!r.seen[i])
            rc = err_set(e, ERR_INVALID, "weight \"%s\" is missing", net->weight[i].name);
    mem_free(r.seen);
    net->trained = rc == ERR_OK;
    return rc == ERR_OK ? rc : err_at(e, rc, "/weights");
}

enum err_code document_read(struct model *out, const char *text, size_t n, struct err *e)
{
    struct parts p = { .n_tokens = MODEL_MAX_TOKENS };
    struct model m = { 0 };
    enum err_code rc = find_parts(&p, text, n, e);

    if (rc == ERR_OK)
        rc = read_architecture(&m, text, &p, e);
    if (rc == ERR_OK && p.weights.found)
        rc = read_weights(m.net, text, n, &p.weights, e);
    if (rc == ERR_OK)
        *out = m;
    else
        model_clear(&m);
    return rc;
}

/* ---- write ---- */

static enum err_code write_text(struct file_out *f, const char *text, struct err *e)
{
    return file_out_write(f, text, strlen(text), e);
}

/* Blocks of 3072 bytes, a multiple of 3 bytes: only the last one is padded. */
static enum err_code write_base64(const struct weight *w, struct file_out *f, struct err *e)
{
    float x[768];
    char text[BASE64_ENCODE_RAW_LENGTH(sizeof x)];
    enum err_code rc = ERR_OK;

    for (size_t i = 0, n; i < w->len && rc == ERR_OK; i += n) {
        n = w->len - i < 768 ? w->len - i : 768;
        model_weight_copy(x, w, i, n);
        base64_encode_raw(text, n * sizeof x[0], (const uint8_t *)x);
        rc = file_out_write(f, text, BASE64_ENCODE_RAW_LENGTH(n * sizeof x[0]), e);
    }
    return rc;
}

/* "name":{"shape":[..],"data":" */
static enum err_code write_head(const struct weight *w, struct file_out *f, struct err *e)
{
    struct shape shape = model_weight_shape(w);
    char text[OP_NAME_MAX * 6 + 4];
    json_t *name = json_string(w->name);
    size_t n = name ? json_dumpb(name, text, sizeof text, JSON_ENCODE_ANY) : 0;
    enum err_code rc = n > 0 && n <= sizeof text ? file_out_write(f, text, n, e) : err_set(e, ERR_NOMEM, "out of memory");

    json_decref(name);
    if (rc == ERR_OK)
        rc = write_text(f, ":{\"shape\":[", e);
    for (int i = 0; i < shape.n_d && rc == ERR_OK; i++) {
        snprintf(text, sizeof text, "%s%d", i ? "," : "", shape.d[i]);
        rc = write_text(f, text, e);
    }
    return rc == ERR_OK ? write_text(f, "],\"data\":\"", e) : rc;
}

enum err_code document_write(const struct model *m, struct file_out *f, struct err *e)
{
    enum err_code rc = write_text(f, "{\"architecture\":", e);

    if (rc == ERR_OK)
        rc = model_write_architecture(m, f, e);
    if (rc == ERR_OK)
        rc = write_text(f, ",\"weights\":{", e);
    for (int i = 0; i < m->net->n_weights && rc == ERR_OK; i++) {
        const struct weight *w = &m->net->weight[i];

        if (i > 0)
            rc = write_text(f, ",", e);
        if (rc == ERR_OK)
            rc = write_head(w, f, e);
        if (rc == ERR_OK)
            rc = write_base64(w, f, e);
        if (rc == ERR_OK)
            rc = write_text(f, "\"}", e);
    }
    return rc == ERR_OK ? write_text(f, "}}\n", e) : rc;
}
