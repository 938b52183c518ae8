/* core/metrics.c: the figures, from probabilities and labels (see metrics.h). Running a net over a data set is evaluate.c.
 *
 * Sums are of integers or doubles in sample order, and the sort behind AUC is exact, so the figures depend on the numbers alone. */
#include "core/metrics.h"

#include "core/mem.h"
#include "core/order.h"

static const struct metric_row {
    const char *name, *help;
    bool larger_is_better, regression;
} rows[] = {
#define X(id, name, up, reg, help) { name, help, up, reg },
    METRIC_LIST(X)
#undef X
};
const char *metric_name(enum metric m) { return rows[m].name; }
const char *metric_help(enum metric m) { return rows[m].help; }
bool metric_larger_is_better(enum metric m) { return rows[m].larger_is_better; }
enum metric metric_default(int n_classes) { return n_classes > 0 ? METRIC_ACCURACY : METRIC_MSE; }
bool metric_fits(enum metric m, int n_classes) { return m == METRIC_LOSS || rows[m].regression == (n_classes == 0); }

/* ---- AUC ---- */

/* Sorts by the upper 32 bits, stably, a byte at a time; b is as long as a. */
static void sort_by_key(uint64_t *a, uint64_t *b, size_t n)
{
    for (int shift = 32; shift < 64; shift += 8) {
        size_t at[257] = { 0 };
        uint64_t *t = a;

        for (size_t i = 0; i < n; i++)
            at[(a[i] >> shift & 255) + 1]++;
        for (int d = 0; d < 256; d++)
            at[d + 1] += at[d];
        for (size_t i = 0; i < n; i++)
            b[at[a[i] >> shift & 255]++] = a[i];
        a = b;
        b = t;
    }
}

/* Mann-Whitney with midranks for ties; NAN when one side is empty. work: 2 n numbers. */
static double auc(const float *score, const int32_t *label, int n, int positive, uint64_t *work)
{
    uint64_t n_pos = 0, twice_ranks = 0, size = (uint64_t)n;

    for (int i = 0; i < n; i++) {
        work[i] = (uint64_t)order_key(score[i]) << 32 | (label[i] == positive);
        n_pos += label[i] == positive;
    }
    if (n_pos == 0 || n_pos == size)
        return NAN;
    sort_by_key(work, work + n, size);
    for (uint64_t i = 0, j; i < size; i = j) {
        uint64_t tied = 0;

        for (j = i; j < size && work[j] >> 32 == work[i] >> 32; j++)
            tied += work[j] & 1;
        twice_ranks += tied * (i + 1 + j); /* midrank of the places i+1 .. j */
    }
    return ((double)twice_ranks / 2 - (double)n_pos * (double)(n_pos + 1) / 2) / ((double)n_pos * (double)(size - n_pos));
}

static enum err_code auc_all(struct metrics *m, int n_classes, int n, const float *p, int k, const int32_t *label, struct err *e)
{
    uint64_t *work = mem_zalloc(2 * (size_t)n, sizeof *work);
    double sum = 0;
    int defined = 0;

    if (!work)
        return err_set(e, ERR_NOMEM, "out of memory");
    if (n_classes <= 2) {
        m->value[METRIC_AUC] = auc(k > 1 ? p + n : p, label, n, 1, work);
    } else {
        for (int c = 0; c < n_classes; c++) {
            double a = auc(p + (size_t)c * (size_t)n, label, n, c, work);

            if (isfinite(a)) {
                sum += a;
                defined++;
            }
        }
        m->value[METRIC_AUC] = defined ? sum / defined : NAN;
    }
    mem_free(work);
    return ERR_OK;
}

/* ---- what is counted per class ---- */

struct class_count { int64_t hit, predicted, actual; };

static int predict(const float *p, int k, size_t n, size_t i)
{
    int best = 0;

    if (k == 1)
        return p[i] > 0.5f;
    for (int c = 1; c < k; c++)
        if (p[(size_t)c * n + i] > p[(size_t)best * n + i])
            best = c;
    return best;
}

static bool among_five(const float *p, int k, size_t n, size_t i, int label)
{
    int before = 0;

    for (int c = 0; k > 5 && c < k; c++) {
        float d = p[(size_t)c * n + i] - p[(size_t)label * n + i];

        before += d > 0 || (d == 0 && c < label);
    }
    return before < 5;
}

static double ratio(double a, double b) { return b > 0 ? a / b : 0; }
static double f1_of(const struct class_count *c) { return ratio(2.0 * (double)c->hit, (double)(c->predicted + c->actual)); }

static void class_figures(struct metrics *m, const struct class_count *count, int n_classes)
{
    double precision = 0, recall = 0, f1 = 0, weighted = 0;
    int there = 0; /* classes that occur or were predicted: the others are no part of the means */

    for (int c = 0; c < n_classes; c++) {
        if (count[c].predicted + count[c].actual == 0)
            continue;
        there++;
        precision += ratio((double)count[c].hit, (double)count[c].predicted);
        recall += ratio((double)count[c].hit, (double)count[c].actual);
        f1 += f1_of(&count[c]);
        weighted += f1_of(&count[c]) * (double)count[c].actual;
    }
    m->value[METRIC_F1_MACRO] = ratio(f1, there);
    m->value[METRIC_F1_WEIGHTED] = ratio(weighted, (double)m->n);
    if (n_classes == 2) {
        m->value[METRIC_PRECISION] = ratio((double)count[1].hit, (double)count[1].predicted);
        m->value[METRIC_RECALL] = ratio((double)count[1].hit, (double)count[1].actual);
        m->value[METRIC_F1] = f1_of(&count[1]);
    } else {
        m->value[METRIC_PRECISION] = ratio(precision, there);
        m->value[METRIC_RECALL] = ratio(recall, there);
        m->value[METRIC_F1] = m->value[METRIC_F1_MACRO];
    }
}

static void start(struct metrics *m, int n_classes, int n)
{
    *m = (struct metrics){ .n_classes = n_classes, .n = n };
    for (int i = 0; i < METRIC_COUNT; i++)
        m->value[i] = NAN;
}

enum err_code metrics_classify(struct metrics *m, int n_classes, int n, const float *p, int k, const int32_t *label, struct err *e)
{
    size_t classes = (size_t)n_classes, size = (size_t)n;
    struct class_count *count;
    int64_t hits = 0, hits5 = 0;
    enum err_code rc = ERR_NOMEM;

    start(m, n_classes, n);
    if (n_classes < 2 || (k != n_classes && (k != 1 || n_classes != 2)))
        return err_set(e, ERR_INVALID, "%d outputs for %d classes", k, n_classes);
    count = mem_zalloc(classes, sizeof *count);
    if (n_classes <= METRICS_MAX_CLASSES_CONFUSION)
        m->confusion = mem_zalloc(classes * classes, sizeof *m->confusion);
    if (!count || (n_classes <= METRICS_MAX_CLASSES_CONFUSION && !m->confusion)) {
        err_set(e, ERR_NOMEM, "out of memory");
        goto done;
    }
    for (size_t i = 0; i < size; i++) {
        int got = predict(p, k, size, i), want = label[i];

        count[got].predicted++;
        count[want].actual++;
        count[want].hit += got == want;
        hits += got == want;
        hits5 += k == 1 || among_five(p, k, size, i, want);
        if (m->confusion)
            m->confusion[(size_t)want * classes + (size_t)got]++;
    }
    m->value[METRIC_ACCURACY] = ratio((double)hits, n);
    m->value[METRIC_TOP5] = ratio((double)hits5, n);
    class_figures(m, count, n_classes);
    rc = auc_all(m, n_classes, n, p, k, label, e);
done:
    mem_free(count);
    if (rc != ERR_OK)
        metrics_clear(m);
    return rc;
}

enum err_code metrics_regress(struct metrics *m, int n, int k, const float *prediction, const float *target, struct err *e)
{
    size_t len = (size_t)n * (size_t)k;
    double squares = 0, absolutes = 0;

    (void)e;
    start(m, 0, n);
    for (size_t i = 0; i < len; i++) {
        double d = (double)prediction[i] - (double)target[i];

        squares += d * d;
        absolutes += fabs(d);
    }
    m->value[METRIC_MSE] = ratio(squares, (double)len);
    m->value[METRIC_MAE] = ratio(absolutes, (double)len);
    return ERR_OK;
}

void metrics_clear(struct metrics *m)
{
    mem_free(m->confusion);
    *m = (struct metrics){ 0 };
}

/* ---- JSON ---- */

static json_t *row_json(const int64_t *count, int n)
{
    json_t *row = json_array();

    for (int i = 0; i < n; i++)
        if (json_array_append_new(row, json_integer(count[i])) != 0) {
            json_decref(row);
            return NULL;
        }
    return row;
}

static json_t *confusion_json(const struct metrics *m)
{
    json_t *all = json_array();

    for (int t = 0; t < m->n_classes; t++)
        if (json_array_append_new(all, row_json(m->confusion + t * m->n_classes, m->n_classes)) != 0) {
            json_decref(all);
            return NULL;
        }
    return all;
}

json_t *metrics_json(const struct metrics *m, bool confusion)
{
    json_t *j = json_object();

    for (int i = 0; i < METRIC_COUNT; i++)
        if (metric_fits((enum metric)i, m->n_classes) &&
            json_object_set_new(j, rows[i].name, isfinite(m->value[i]) ? json_real(m->value[i]) : json_null()) != 0)
            goto failed;
    if (confusion && m->confusion && json_object_set_new(j, "confusion_matrix", confusion_json(m)) != 0)
        goto failed;
    return j;
failed:
    json_decref(j);
    return NULL;
}

enum err_code metrics_from_json(struct metrics *m, const json_t *j, struct err *e)
{
    if (!json_is_object(j))
        return err_set(e, ERR_INVALID, "must be an object");
    start(m, json_object_get(j, rows[METRIC_ACCURACY].name) ? 1 : 0, 0);
    for (int i = 0; i < METRIC_COUNT; i++) {
        const json_t *v = json_object_get(j, rows[i].name);

        if (json_is_number(v))
            m->value[i] = json_number_value(v);
        else if (v && !json_is_null(v))
            return err_field(e, ERR_INVALID, "", "%s must be a number or null", rows[i].name);
    }
    return ERR_OK;
}
