/* core/units.c: what falls together (see unit.h). */
#include "core/unit.h"
#include "core/select.h"

/* ---- weight ---- */

static const struct prune_unit weight_row = { .plug = { "weight", "Single weights.", NULL, 0 } };

/* ---- n:m ---- */

struct nm_conf { int64_t n, m; };
static const struct param nm_params[] = {
    FIELD_INT(struct nm_conf, n, 1, UNIT_RUN_MAX, 2, "Weights of a run that may stay."),
    FIELD_INT(struct nm_conf, m, 1, UNIT_RUN_MAX, 4, "Length of a run: consecutive inputs of an output. What is left at the end of a row is a run too."), FIELD_END
};

static size_t run_spare(const struct nm_conf *c, size_t len) { return len > (size_t)c->n ? len - (size_t)c->n : 0; }

static uint64_t nm_most(const void *conf, size_t rows, size_t columns)
{
    const struct nm_conf *c = conf;
    size_t m = (size_t)c->m;

    return (uint64_t)rows * (columns / m * run_spare(c, m) + run_spare(c, columns % m));
}

static void nm_protect(const void *conf, size_t rows, size_t columns, uint32_t *key)
{
    const struct nm_conf *c = conf;
    size_t m = (size_t)c->m;

    for (size_t r = 0; r < rows; r++)
        for (size_t first = 0; first < columns; first += m) {
            size_t len = columns - first < m ? columns - first : m;

            select_protect_few(key + r * columns + first, len, run_spare(c, len));
        }
}

static struct unit_runs nm_runs(const void *conf)
{
    const struct nm_conf *c = conf;

    return (struct unit_runs){ (int)c->m, (int)c->n };
}

static const struct prune_unit nm_row = {
    .plug = { "n:m", "Single weights, until at most n of every m consecutive inputs of an output stay: 2:4 by default. n and m are the target.",
              nm_params, sizeof(struct nm_conf) },
    .implied = true, .most = nm_most, .protect = nm_protect, .runs = nm_runs
};

/* ---- block ---- */

struct block_conf { int64_t rows, columns; int pool; };
static const struct param block_params[] = {
    FIELD_INT(struct block_conf, rows, 1, 4096, 4, "Outputs of a block."),
    FIELD_INT(struct block_conf, columns, 1, 4096, 4, "Inputs of a block. Blocks at the edges may be smaller."),
    FIELD_CHOICE(struct block_conf, pool, "mean|sum|max", POOL_MEAN, "Score of a block: what its weights' scores make."), FIELD_END
};

static size_t parts(size_t n, int64_t of) { return (n + (size_t)of - 1) / (size_t)of; }

static size_t block_count(const void *conf, size_t rows, size_t columns)
{
    const struct block_conf *c = conf;

    return parts(rows, c->rows) * parts(columns, c->columns);
}

static size_t block_at(const void *conf, size_t columns, size_t row, size_t column)
{
    const struct block_conf *c = conf;

    return row / (size_t)c->rows * parts(columns, c->columns) + column / (size_t)c->columns;
}

static enum unit_pool block_pool(const void *conf) { return (enum unit_pool)((const struct block_conf *)conf)->pool; }

static const struct prune_unit block_row = {
    .plug = { "block", "Blocks of weights: so many outputs by so many inputs of a kernel (with pool max: Narang et al. 2017).", block_params,
              sizeof(struct block_conf) },
    .n_units = block_count, .unit_at = block_at, .pool = block_pool
};

/* ---- neuron ---- */

struct neuron_conf { int pool; int64_t round_to; int cost; };
static const struct param neuron_params[] = {
    FIELD_CHOICE(struct neuron_conf, pool, "mean|sum|max", POOL_MEAN,
                 "Where a criterion scores weights: what the scores of the weights that make a neuron make. The mean lets layers of any width compare."),
    FIELD_INT(struct neuron_conf, round_to, 1, 4096, 1,
              "What stays of a layer is a multiple of it, or all: for hardware that computes in blocks. Needs measure weights or macs."),
    FIELD_CHOICE(struct neuron_conf, cost, "none|weights|macs|time", COST_NONE,
                 "What a neuron's score is divided by: the weights, the multiply-adds or the time that go with it, so that of neurons worth the same "
                 "the dearest goes first (Shen et al. 2021). Time is an estimate: the multiply-adds, and 200 for each number that a layer puts out. "
                 "Needs scope global."), FIELD_END
};

static enum unit_pool neuron_pool(const void *conf) { return (enum unit_pool)((const struct neuron_conf *)conf)->pool; }

static int64_t neuron_multiple(const void *conf) { return ((const struct neuron_conf *)conf)->round_to; }

static enum unit_cost neuron_cost(const void *conf) { return (enum unit_cost)((const struct neuron_conf *)conf)->cost; }

static const struct prune_unit neuron_row = {
    .plug = { "neuron", "Neurons, with all that makes and reads them, also across add and concatenate: what shrink takes out. Those of the last layer stay, and "
      "those that a convolution with groups, other than a depthwise one, makes or reads.", neuron_params, sizeof(struct neuron_conf) },
    .neurons = true, .pool = neuron_pool, .multiple = neuron_multiple, .cost = neuron_cost
};

static const struct plug *const rows[] = { &weight_row.plug, &nm_row.plug, &block_row.plug, &neuron_row.plug, NULL };
const struct plug_table unit_table = { "unit", rows };
