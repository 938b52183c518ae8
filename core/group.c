/* core/group.c: see group.h.
 *
 * Every value is a list of spans: runs of whole neurons. Neurons have numbers in the order in which nodes make them; where values are merged, the
 * neurons at the same place are united (disjoint sets, the lowest number stands for the set). What a weight is to neurons is noted as a
 * use along the way. In the end the sets are cut into bundles: wherever a layer starts or ends, wherever neighbours are not united with neighbours,
 * and where fixed ones begin, so that within a bundle every use is one straight run. */
#include "core/group.h"

#include <string.h>

#include "core/mem.h"

struct span { int first, n; size_t run; };  /* neurons first .. first+n-1, run numbers each */
struct value { int first, n; };             /* spans */
struct use { int first, n; struct group_member member; }; /* as a member of a bundle that begins with neuron `first` */
struct flow {
    const struct net *net;
    struct value *value;  /* per node */
    int n_neurons;
    int *set;             /* per neuron: a lower one of its set, or itself */
    bool *fixed, *start;  /* per neuron; in the end those of lowest ones count */
    int n_spans, max_spans, n_uses, max_uses;
    struct span *span;
    struct use *use;
    bool failed;          /* memory is short */
};

static int first_axis(const struct shape *s) { return s->n_d > 0 ? s->d[0] : 1; }
static bool begins(const struct node *node) { return node->plan.neurons == NEURONS_MAKE || node->plan.neurons == NEURONS_MIX; }

/* Room for one more of n elements of an array. */
static bool grow(struct flow *f, void **array, int n, int *max, size_t size)
{
    int more = 2 * *max + 64;
    void *p = n < *max || f->failed ? *array : mem_realloc(*array, (size_t)more * size);

    f->failed = f->failed || !p;
    if (f->failed)
        return false;
    if (n >= *max)
        *max = more;
    *array = p;
    return true;
}

static void add_span(struct flow *f, struct span s)
{
    if (grow(f, (void **)&f->span, f->n_spans, &f->max_spans, sizeof s))
        f->span[f->n_spans++] = s;
}

static void add_use(struct flow *f, struct span s, int w, int axis, size_t offset, size_t run, enum group_role role)
{
    if (grow(f, (void **)&f->use, f->n_uses, &f->max_uses, sizeof(struct use)))
        f->use[f->n_uses++] = (struct use){ s.first, s.n, { w, axis, (int)offset, (int)run, role } };
}

static void fix_span(struct flow *f, struct span s) { memset(f->fixed + s.first, true, (size_t)s.n); }

static void fix(struct flow *f, struct value v)
{
    for (int i = v.first; i < v.first + v.n; i++)
        fix_span(f, f->span[i]);
}

static int find(struct flow *f, int neuron)
{
    int top = neuron;

    while (f->set[top] != top)
        top = f->set[top];
    while (f->set[neuron] != top) {
        int next = f->set[neuron];

        f->set[neuron] = top;
        neuron = next;
    }
    return top;
}

static void unite(struct flow *f, int a, int b)
{
    a = find(f, a);
    b = find(f, b);
    f->set[a < b ? b : a] = a < b ? a : b;
}

/* ---- how neurons pass: one function per way ---- */

/* Notes weight w, which lies along `axis` beside a value of len numbers; what does not lie in whole indices is fixed. */
static void use_value(struct flow *f, struct value v, size_t len, int w, int axis, enum group_role role)
{
    size_t per = len / (size_t)f->net->weight[w].info.shape.d[axis], at = 0; /* numbers of one index */

    for (int i = v.first; i < v.first + v.n; i++) {
        struct span s = f->span[i];

        if (at % per == 0 && s.run % per == 0)
            add_use(f, s, w, axis, at / per, s.run / per, role);
        else
            fix_span(f, s);
        at += (size_t)s.n * s.run;
    }
}

/* What a weight is that lies along the first axis. */
static enum group_role role_of(const struct shape *weight) { return weight->n_d > 1 ? GROUP_MAKES : GROUP_SHIFTS; }

/* New neurons, along the first axis of the output. */
static void begin(struct flow *f, int i)
{
    const struct node *node = &f->net->node[i];
    int n = first_axis(&node->plan.out);
    size_t len = shape_len(&node->plan.out);
    struct span s = { f->n_neurons, n, len / (size_t)n };

    f->value[i] = (struct value){ f->n_spans, 1 };
    f->n_neurons += n;
    add_span(f, s);
    for (int k = 0; k < node->plan.n_weights && !f->failed; k++) {
        const struct shape *shape = &node->plan.weight[k].shape;

        if (first_axis(shape) == n)
            use_value(f, f->value[i], len, node->first_weight + k, 0, role_of(shape));
    }
}

static void mix(struct flow *f, int i)
{
    const struct node *node = &f->net->node[i];

    for (int k = 0; k < node->n_in; k++)
        fix(f, f->value[node->in[k]]);
    begin(f, i);
    if (!f->failed)
        fix(f, f->value[i]);
}

static void make(struct flow *f, int i)
{
    const struct node *node = &f->net->node[i];

    use_value(f, f->value[node->in[0]], shape_len(&f->net->node[node->in[0]].plan.out), node->first_weight, 1, GROUP_READS);
    begin(f, i);
}

/* The spans of v, their runs scaled. */
static void append(struct flow *f, int i, struct value v, size_t from, size_t to)
{
    for (int k = v.first; k < v.first + v.n && !f->failed; k++) {
        struct span s = f->span[k];

        s.run = s.run / from * to;
        add_span(f, s);
    }
    f->value[i].n += v.n;
}

static void pass(struct flow *f, int i)
{
    const struct node *node = &f->net->node[i];
    const struct shape *in = &f->net->node[node->in[0]].plan.out, *out = &node->plan.out;
    size_t len = shape_len(out), n = (size_t)first_axis(in);

    f->value[i] = f->value[node->in[0]];
    if (len != shape_len(in)) {
        f->value[i] = (struct value){ f->n_spans, 0 };
        append(f, i, f->value[node->in[0]], shape_len(in) / n, len / n);
    }
    for (int k = 0; k < node->plan.n_weights && !f->failed; k++)
        use_value(f, f->value[i], len, node->first_weight + k, 0, role_of(&node->plan.weight[k].shape));
}

static void join(struct flow *f, int i)
{
    const struct node *node = &f->net->node[i];

    f->value[i] = (struct value){ f->n_spans, 0 };
    for (int k = 0; k < node->n_in; k++)
        append(f, i, f->value[node->in[k]], 1, 1);
}

/* Values of as many neurons, of len and other_len numbers. Where neurons meet whose shares of them differ, both sides are fixed. */
static void merge_values(struct flow *f, struct value a, size_t len, struct value b, size_t other_len)
{
    int i = a.first, k = b.first, from_i = 0, from_k = 0; /* neurons of the two spans that are through */

    while (i < a.first + a.n && k < b.first + b.n && f->span[i].run * other_len == f->span[k].run * len) {
        const struct span *s = &f->span[i], *t = &f->span[k];
        int n = s->n - from_i < t->n - from_k ? s->n - from_i : t->n - from_k;

        for (int j = 0; j < n; j++)
            unite(f, s->first + from_i + j, t->first + from_k + j);
        from_i = from_i + n < s->n ? from_i + n : (i++, 0);
        from_k = from_k + n < t->n ? from_k + n : (k++, 0);
    }
    if (i < a.first + a.n || k < b.first + b.n) {
        fix(f, a);
        fix(f, b);
    }
}

/* From here on the neurons are those of an input that is as long as the output. */
static void merge(struct flow *f, int i)
{
    const struct node *node = &f->net->node[i];
    const size_t len = shape_len(&node->plan.out);
    int whole = node->in[0];

    for (int k = 1; k < node->n_in; k++)
        whole = shape_len(&f->net->node[whole].plan.out) < len ? node->in[k] : whole;
    f->value[i] = f->value[whole];
    for (int k = 0; k < node->n_in; k++)
        if (node->in[k] != whole)
            merge_values(f, f->value[whole], len, f->value[node->in[k]], shape_len(&f->net->node[node->in[k]].plan.out));
}

static void (*const ways[])(struct flow *f, int i) = {
    [NEURONS_MIX] = mix, [NEURONS_MAKE] = make, [NEURONS_PASS] = pass, [NEURONS_PLACES] = pass, [NEURONS_MERGE] = merge, [NEURONS_JOIN] = join
};

/* ---- bundles ---- */

/* start[s]: the set whose lowest neuron is s begins a bundle. */
static void cut(struct flow *f)
{
    for (int i = 0; i < f->n_neurons; i++)
        f->fixed[find(f, i)] |= f->fixed[i];
    for (int v = 0; v < f->net->n_nodes; v++) { /* layers' ends */
        struct span s = f->span[f->value[v].first];
        int last = find(f, s.first + s.n - 1) + 1;

        if (!begins(&f->net->node[v]))
            continue;
        f->start[find(f, s.first)] = true;
        if (last < f->n_neurons)
            f->start[find(f, last)] = true;
    }
    for (int i = 1; i < f->n_neurons; i++) {
        int s = find(f, i), before = find(f, i - 1);

        if (s != before + 1 || f->fixed[s] != f->fixed[before])
            f->start[s] = true;
    }
}

/* Numbers of bundles into place[lowest neuron], and their sizes; or counts them alone (out NULL). */
static int number_bundles(struct flow *f, struct groups *out, int *place)
{
    int n = 0;

    for (int i = 0; i < f->n_neurons; i++) {
        if (find(f, i) != i)
            continue;
        n += f->start[i];
        if (!out)
            continue;
        place[i] = n - 1;
        out->bundle[n - 1].n++;
        out->bundle[n - 1].fixed = f->fixed[i];
    }
    return n;
}

/* Hands each use to the bundles that it passes through. counting: only their numbers of members. */
static void hand_out(struct flow *f, struct groups *g, const int *place, bool counting)
{
    for (const struct use *u = f->use; u < f->use + f->n_uses; u++)
        for (int i = u->first; i < u->first + u->n; i++) {
            int s = find(f, i);
            struct bundle *b = &g->bundle[place[s]];

            if (!f->start[s])
                continue;
            if (!counting) {
                b->member[b->n_members] = u->member;
                b->member[b->n_members].offset += (i - u->first) * u->member.run;
            }
            b->n_members++;
        }
}

static enum err_code make_bundles(struct groups *g, struct flow *f, struct err *e)
{
    int *place = mem_zalloc((size_t)f->n_neurons, sizeof *place);
    bool ok = place != NULL;

    cut(f);
    g->n = number_bundles(f, NULL, NULL);
    g->bundle = ok ? mem_zalloc((size_t)g->n, sizeof *g->bundle) : NULL;
    ok = ok && g->bundle;
    if (ok) {
        number_bundles(f, g, place);
        hand_out(f, g, place, true);
    }
    for (int b = 0; b < g->n && ok; b++) {
        g->bundle[b].member = mem_zalloc((size_t)g->bundle[b].n_members, sizeof *g->bundle[b].member);
        ok = g->bundle[b].member != NULL;
        g->bundle[b].n_members = 0;
    }
    if (ok)
        hand_out(f, g, place, false);
    mem_free(place);
    return ok ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");
}

static enum err_code flow_init(struct flow *f, const struct net *net, struct err *e)
{
    size_t n = 0;

    for (int i = 0; i < net->n_nodes; i++)
        n += begins(&net->node[i]) ? (size_t)first_axis(&net->node[i].plan.out) : 0;
    if (n > SHAPE_MAX_LEN)
        return err_set(e, ERR_TOO_LARGE, "the model has more than %zu neurons", SHAPE_MAX_LEN);
    *f = (struct flow){ .net = net };
    f->value = mem_zalloc((size_t)net->n_nodes, sizeof *f->value);
    f->set = mem_alloc(n * sizeof *f->set);
    f->fixed = mem_zalloc(n, sizeof *f->fixed);
    f->start = mem_zalloc(n, sizeof *f->start);
    f->failed = !f->value || !f->set || !f->fixed || !f->start;
    for (size_t i = 0; i < n && !f->failed; i++)
        f->set[i] = (int)i;
    return ERR_OK;
}

enum err_code groups_find(struct groups *out, const struct net *net, struct err *e)
{
    struct flow f = { 0 };
    struct groups g = { 0 };
    enum err_code rc = flow_init(&f, net, e);

    for (int i = 0; i < net->n_nodes && rc == ERR_OK && !f.failed; i++)
        ways[net->node[i].plan.neurons](&f, i);
    if (f.failed)
        rc = err_set(e, ERR_NOMEM, "out of memory");
    if (rc == ERR_OK) {
        fix(&f, f.value[net->n_nodes - 1]);
        rc = make_bundles(&g, &f, e);
    }
    mem_free(f.value);
    mem_free(f.set);
    mem_free(f.fixed);
    mem_free(f.start);
    mem_free(f.span);
    mem_free(f.use);
    if (rc == ERR_OK)
        *out = g;
    else
        groups_clear(&g);
    return rc;
}

void groups_clear(struct groups *g)
{
    for (int b = 0; b < g->n && g->bundle; b++)
        mem_free(g->bundle[b].member);
    mem_free(g->bundle);
    *g = (struct groups){ 0 };
}

/* ---- where a neuron's numbers are ---- */

struct group_slice group_slice(const struct weight *w, const struct group_member *m, int j)
{
    const struct shape *s = &w->info.shape;
    size_t row = w->len / (size_t)s->d[0], inner = m->axis == 0 ? row : row / (size_t)s->d[1]; /* numbers of one index */

    return (struct group_slice){ (size_t)(m->offset + j * m->run) * inner, (size_t)m->run * inner, row, m->axis == 0 ? 1 : s->d[0] };
}

struct group_value group_value(const struct net *net, const struct group_member *m, int j)
{
    const struct weight *w = &net->weight[m->w];
    int node = net->node[w->node].in[0];
    size_t per = shape_len(&net->node[node].plan.out) / (size_t)w->info.shape.d[1];

    return (struct group_value){ node, (size_t)(m->offset + j * m->run) * per, (size_t)m->run * per };
}
