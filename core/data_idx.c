/* core/data_idx.c: reads IDX, the format of MNIST (Y. LeCun): 1. two zero bytes; 2. a byte for the type, a byte for the rank; 3. the
 * dimensions, big-endian u32 each, the first one counts the samples; 4. the numbers, big-endian, to the last byte of the file. */
#include "core/data_impl.h"

static const struct { unsigned char code; struct number_type type; } types[] = {
    { 0x08, { 'u', 1, true } }, { 0x09, { 'i', 1, true } }, { 0x0b, { 'i', 2, true } },
    { 0x0c, { 'i', 4, true } }, { 0x0d, { 'f', 4, true } }, { 0x0e, { 'f', 8, true } },
};
enum { N_TYPES = sizeof types / sizeof types[0] };

static enum err_code too_short(const struct input *in, uint64_t expected, struct err *e)
{
    return err_set(e, ERR_SYNTAX, "the IDX file ends at byte %llu, expected %llu bytes", (unsigned long long)input_offset(in),
                   (unsigned long long)expected);
}

static enum err_code read_dims(struct data_numbers *a, enum data_kind kind, int rank, struct err *e)
{
    struct input *in = a->from;
    unsigned char b[4 * SHAPE_MAX];
    uint64_t dims[SHAPE_MAX];
    size_t got;
    enum err_code rc = input_read(in, b, 4 * (size_t)rank, &got, e);

    if (rc != ERR_OK)
        return rc;
    if (got < 4 * (size_t)rank)
        return too_short(in, 4 + 4 * (uint64_t)rank, e);
    for (int i = 0; i < rank; i++) {
        const unsigned char *p = b + 4 * i;

        dims[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
        if (i > 0 && dims[i] == 0)
            return err_set(e, ERR_INVALID, "dimension %d at offset %d is 0", i, 4 + 4 * i);
    }
    a->at = 4 + 4 * (uint64_t)rank;
    return data_numbers_head(a, kind, rank, dims, e);
}

static enum err_code check_length(const struct data_numbers *a, struct err *e)
{
    const uint64_t size = input_size(a->from);

    if (size == UINT64_MAX || size == a->at + a->bytes)
        return ERR_OK;
    return err_set(e, ERR_SYNTAX, "the IDX file has %llu bytes, its dimensions at offset 4 ask for %llu", (unsigned long long)size,
                   (unsigned long long)(a->at + a->bytes));
}

static enum err_code read_head(struct data_numbers *a, enum data_kind kind, struct err *e)
{
    struct input *in = a->from;
    unsigned char b[4];
    size_t got;
    enum err_code rc = input_read(in, b, sizeof b, &got, e);

    if (rc != ERR_OK)
        return rc;
    if (got < sizeof b && (got < 2 || (b[0] == 0 && b[1] == 0)))
        return too_short(in, sizeof b, e);
    if (b[0] != 0 || b[1] != 0)
        return err_set(e, ERR_SYNTAX, "neither NPY nor an IDX file, which must begin with two zero bytes");
    for (size_t i = 0; i < N_TYPES; i++)
        if (types[i].code == b[2])
            a->type = types[i].type;
    if (a->type.size == 0)
        return err_set(e, ERR_SYNTAX, "unknown IDX type 0x%02x at offset 2", b[2]);
    if (b[3] < 1 || b[3] > SHAPE_MAX)
        return err_set(e, ERR_SYNTAX, "the rank at offset 3 is %d, it must be 1 to %d", b[3], SHAPE_MAX);
    rc = read_dims(a, kind, b[3], e);
    return rc == ERR_OK ? check_length(a, e) : rc;
}

static enum err_code convert(const struct data_upload *u, struct err *e)
{
    return data_numbers_upload(u, "IDX", "idx", read_head, e);
}

static bool sniff(const struct data_start *s)
{
    for (size_t i = 0; i < N_TYPES; i++)
        if (s->n >= 4 && s->x[0] == 0 && s->x[1] == 0 && s->x[2] == types[i].code && s->x[3] >= 1 && s->x[3] <= SHAPE_MAX)
            return true;
    return false;
}

const struct data_format data_format_idx = {
    .plug = { "idx", "IDX, MNIST's format: features and labels apart, plain or gzip; images (n, h, w) or (n, h, w, c).", NULL, 0 },
    .parts = 1 << DATA_FEATURES | 1 << DATA_LABELS, .sniff = sniff, .convert = convert
};
