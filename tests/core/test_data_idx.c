/* IDX and gzip: every type is read, everything broken is refused by its offset, at every byte; nothing is left behind. */
#include <string.h>
#include <zlib.h>

#include "core/data_impl.h"
#include "core/mem.h"
#include "tests/core/data_fixture.h"

static const struct data_conf classes = { .csv = { .label = "-1", .delimiter = "," } },
                              targets = { .task = 1, .csv = { .label = "-1", .delimiter = "," } };

static size_t gzip(const void *data, size_t n, unsigned char *to, size_t size)
{
    z_stream z = { .next_in = (unsigned char *)(uintptr_t)data, .avail_in = (unsigned)n, .next_out = to, .avail_out = (unsigned)size };

    ck_assert_int_eq(deflateInit2(&z, 9, Z_DEFLATED, 16 + MAX_WBITS, 9, Z_DEFAULT_STRATEGY), Z_OK);
    ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return size - z.avail_out;
}

static enum err_code convert(const void *bytes, size_t n, enum data_part part, const struct data_conf *conf, struct err *e)
{
    ck_assert_int_eq(file_write(upload, bytes, n, NULL), ERR_OK);
    return data_convert(upload, false, DATA_TRAIN, part, conf, x_path, x_path, NULL, NULL, 1 << 20, e);
}

#define BYTES(s) s, sizeof s - 1
#define U8 "\0\0\x08"
#define DIM(n) "\0\0\0" n

static const struct { enum data_part part; int task; const char *bytes; size_t n; enum err_code code; const char *says; } refused[] = {
    { DATA_FEATURES, 0, BYTES(""), ERR_SYNTAX, "ends at byte 0" },
    { DATA_FEATURES, 0, BYTES("\0\0\x08"), ERR_SYNTAX, "ends at byte 3" },
    { DATA_FEATURES, 0, BYTES("1,2,3\n"), ERR_SYNTAX, "nor an IDX file" },
    { DATA_FEATURES, 0, BYTES("\0\0\x07\x01" DIM("\1") "\1"), ERR_SYNTAX, "type 0x07 at offset 2" },
    { DATA_FEATURES, 0, BYTES(U8 "\0"), ERR_SYNTAX, "rank at offset 3 is 0" },
    { DATA_FEATURES, 0, BYTES(U8 "\x09"), ERR_SYNTAX, "rank at offset 3 is 9" },
    { DATA_FEATURES, 0, BYTES(U8 "\2" DIM("\1") "\0\0"), ERR_SYNTAX, "ends at byte 10, expected 12" },
    { DATA_FEATURES, 0, BYTES(U8 "\2" DIM("\1") DIM("\0")), ERR_INVALID, "dimension 1 at offset 8 is 0" },
    { DATA_FEATURES, 0, BYTES(U8 "\2" DIM("\0") DIM("\1")), ERR_INVALID, "no samples" },
    { DATA_FEATURES, 0, BYTES(U8 "\2" DIM("\2") DIM("\2") "abc"), ERR_SYNTAX, "has 15 bytes, its dimensions at offset 4 ask for 16" },
    { DATA_FEATURES, 0, BYTES(U8 "\2" DIM("\2") DIM("\2") "abcde"), ERR_SYNTAX, "has 17 bytes" },
    { DATA_FEATURES, 0, BYTES(U8 "\2\xff\xff\xff\xff\x7f\xff\xff\xff" "a"), ERR_SYNTAX, "ask for 9223372030412324877" },
    { DATA_FEATURES, 0, BYTES("\0\0\x0e\2\xff\xff\xff\xff\x7f\xff\xff\xff" "a"), ERR_TOO_LARGE, "2^63" },
    { DATA_FEATURES, 0, BYTES(U8 "\3" DIM("\1") "\0\1\0\0\0\1\0\0" "a"), ERR_INVALID, "more than" },
    { DATA_FEATURES, 0, BYTES("\0\0\x0d\1" DIM("\2") "\0\0\0\0\x7f\x80\0\0"), ERR_INVALID, "not a finite float32 number, at offset 12" },
    { DATA_FEATURES, 0, BYTES("\0\0\x0d\1" DIM("\1") "\x7f\xc0\0\0"), ERR_INVALID, "not a number, at offset 8" },
    { DATA_FEATURES, 0, BYTES("\0\0\x0e\1" DIM("\1") "\x7f\xe0\0\0\0\0\0\0"), ERR_INVALID, "not a finite float32 number, at offset 8" },
    { DATA_LABELS, 0, BYTES("\0\0\x0d\1" DIM("\1") "\0\0\0\0"), ERR_INVALID, "must be integers" },
    { DATA_LABELS, 0, BYTES(U8 "\2" DIM("\1") DIM("\2") "ab"), ERR_INVALID, "of rank 1" },
    { DATA_LABELS, 0, BYTES("\0\0\x09\1" DIM("\3") "\0\1\xff"), ERR_INVALID, "class -1: it must be 0 to 9999, at offset 10" },
    { DATA_LABELS, 0, BYTES("\0\0\x0b\1" DIM("\1") "\x27\x10"), ERR_INVALID, "class 10000" },
    { DATA_LABELS, 1, BYTES(U8 "\3" DIM("\1") DIM("\1") DIM("\1") "a"), ERR_INVALID, "rank 1 or 2" },
};

/* Plain, then through gzip: but for the length, which only a plain file tells early, the same answer. */
START_TEST(refuses)
{
    const struct data_conf *conf = refused[_i].task ? &targets : &classes;
    unsigned char packed[256];
    size_t n = gzip(refused[_i].bytes, refused[_i].n, packed, sizeof packed);
    struct err e = { 0 };

    ck_assert_int_eq(convert(refused[_i].bytes, refused[_i].n, refused[_i].part, conf, &e), refused[_i].code);
    ck_assert_msg(strstr(e.msg, refused[_i].says) != NULL, "\"%s\" does not say \"%s\"", e.msg, refused[_i].says);
    ck_assert_int_eq(files_in_dir(), 1);
    ck_assert_int_ne(convert(packed, n, refused[_i].part, conf, &e), ERR_OK);
    if (!strstr(refused[_i].says, "ask for") && !strstr(refused[_i].says, "has 17"))
        ck_assert_msg(strstr(e.msg, refused[_i].says) != NULL, "\"%s\" does not say \"%s\"", e.msg, refused[_i].says);
    ck_assert_int_eq(files_in_dir(), 1);
}
END_TEST

static const struct { const char *bytes; size_t n; float x[2]; } types[] = {
    { BYTES("\0\0\x08\1" DIM("\2") "\x01\xff"), { 1, 255 } },
    { BYTES("\0\0\x09\1" DIM("\2") "\x01\xff"), { 1, -1 } },
    { BYTES("\0\0\x0b\1" DIM("\2") "\x01\x02\xff\xfe"), { 258, -2 } },
    { BYTES("\0\0\x0c\1" DIM("\2") "\0\1\0\2\xff\xff\xff\xfd"), { 65538, -3 } },
    { BYTES("\0\0\x0d\1" DIM("\2") "\x3f\xc0\0\0\xbf\x80\0\0"), { 1.5f, -1 } },
    { BYTES("\0\0\x0e\1" DIM("\2") "\x3f\xf8\0\0\0\0\0\0\xbf\xf0\0\0\0\0\0\0"), { 1.5f, -1 } },
};

static const unsigned char two_classes[] = { 0, 0, 8, 1, 0, 0, 0, 2, 1, 0 };

START_TEST(reads_every_type)
{
    const char *paths[DATA_SPLITS][2] = { { x_path, upload } };
    char features[64];
    struct dataset *d;
    struct err e = { 0 };

    snprintf(features, sizeof features, "%s/features", dir);
    for (int task = 0; task < 2; task++) { /* as features, then as targets */
        const struct data_conf *conf = task ? &targets : &classes;

        ck_assert_int_eq(convert(types[_i].bytes, types[_i].n, DATA_FEATURES, conf, &e), ERR_OK);
        ck_assert_int_eq(rename(x_path, features), 0);
        if (task)
            ck_assert_int_eq(convert(types[_i].bytes, types[_i].n, DATA_LABELS, conf, &e), ERR_OK);
        else
            ck_assert_int_eq(convert(two_classes, sizeof two_classes, DATA_LABELS, conf, &e), ERR_OK);
        paths[0][0] = features;
        paths[0][1] = x_path;
        ck_assert_msg(dataset_open(&d, conf, paths, &e) == ERR_OK, "%s %s", e.at, e.msg);
        ck_assert_int_eq(d->shape.n_d, 1);
        for (int i = 0; i < 2; i++) {
            float x = d->split[0].is_u8 ? ((const uint8_t *)d->split[0].x)[i] : ((const float *)d->split[0].x)[i];

            ck_assert_float_eq(x, types[_i].x[i]);
            ck_assert(task ? d->split[0].target[i] == types[_i].x[i] : d->split[0].label[i] == 1 - i);
        }
        dataset_free(d);
        unlink(features);
    }
}
END_TEST

/* ---- at every byte ---- */

static const unsigned char sound[] = { 0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 };

/* Scaling by channel: mean 0 and deviation 1 over all pixels of the train split; a channel that is constant is moved to 0 and not blown up. Channels
 * are where the data set says. */
START_TEST(channels_are_scaled)
{
    enum { SIDE = 28, SAMPLES = 3, PIXELS = SIDE * SIDE, LEN = PIXELS * 2 };
    static const unsigned char heads[][20] = { { 0, 0, 8, 4, 0, 0, 0, SAMPLES, 0, 0, 0, SIDE, 0, 0, 0, SIDE, 0, 0, 0, 2 },
                                               { 0, 0, 8, 4, 0, 0, 0, SAMPLES, 0, 0, 0, 2, 0, 0, 0, SIDE, 0, 0, 0, SIDE } };
    enum { HEAD = sizeof heads[0] };
    static unsigned char bytes[HEAD + SAMPLES * LEN];
    static const unsigned char labels[] = { 0, 0, 8, 1, 0, 0, 0, SAMPLES, 0, 1, 0 };
    const char *paths[DATA_SPLITS][2] = { { y_path, x_path } };
    struct data_conf by_channel = classes;
    double sum = 0, square = 0;
    struct dataset *d;

    by_channel.scaling = DATA_SCALE_CHANNEL;
    by_channel.channels = _i ? DATA_CHANNELS_FIRST : DATA_CHANNELS_LAST;
    memcpy(bytes, heads[_i], HEAD);
    for (int i = 0; i < SAMPLES * LEN; i++)
        bytes[HEAD + i] = (_i ? i / PIXELS % 2 : i % 2) ? 255 : (unsigned char)(i * 7 % 251);
    ck_assert_int_eq(convert(bytes, sizeof bytes, DATA_FEATURES, &by_channel, NULL), ERR_OK);
    ck_assert_int_eq(rename(x_path, y_path), 0);
    ck_assert_int_eq(convert(labels, sizeof labels, DATA_LABELS, &by_channel, NULL), ERR_OK);
    ck_assert_int_eq(dataset_open(&d, &by_channel, paths, NULL), ERR_OK);
    ck_assert(d->by_channel && d->channels_first == (_i == 1));
    for (int i = 0; i < SAMPLES * LEN; i++) {
        double x = ((double)bytes[HEAD + i] - (double)d->center[i % LEN]) * (double)d->scale[i % LEN];

        if (_i ? i / PIXELS % 2 : i % 2)
            ck_assert_msg(x == 0 && d->scale[i % LEN] == 1, "a constant channel: %g, scaled by %g", x, (double)d->scale[i % LEN]);
        else
            sum += x, square += x * x;
    }
    ck_assert_double_eq_tol(sum / (SAMPLES * LEN / 2), 0, 1e-5);
    ck_assert_double_eq_tol(square / (SAMPLES * LEN / 2), 1, 1e-5);
    dataset_free(d);
}
END_TEST

/* More samples than the sums of bytes hold at once: nothing overflows, and what is merged is what two plain passes say. */
START_TEST(sums_of_bytes)
{
    enum { SAMPLES = 200000, WIDTH = 2 };
    static const unsigned char head[] = { 0, 0, 8, 2, 0, 3, 0x0d, 0x40, 0, 0, 0, WIDTH };
    static unsigned char bytes[sizeof head + SAMPLES * WIDTH];
    const unsigned char *x = bytes + sizeof head;
    struct data_in in;

    memcpy(bytes, head, sizeof head);
    for (int i = 0; i < SAMPLES * WIDTH; i++)
        bytes[(int)sizeof head + i] = i % WIDTH ? (unsigned char)(3 + i / WIDTH % 251) : 255;
    ck_assert_int_eq(convert(bytes, sizeof bytes, DATA_FEATURES, &classes, NULL), ERR_OK);
    ck_assert_int_eq(data_in_open(&in, x_path, NULL), ERR_OK);
    for (int c = 0; c < WIDTH; c++) {
        double mean = 0, m2 = 0;

        for (int i = 0; i < SAMPLES; i++)
            mean += (double)x[i * WIDTH + c] / SAMPLES;
        for (int i = 0; i < SAMPLES; i++)
            m2 += (x[i * WIDTH + c] - mean) * (x[i * WIDTH + c] - mean);
        ck_assert_double_eq_tol(in.mean[c], mean, 1e-8);
        ck_assert_double_eq_tol(in.m2[c], m2, 1e-9 * m2 + 1e-6);
        ck_assert(in.min[c] == (c ? 3 : 255) && in.max[c] == (c ? 253 : 255));
    }
    ck_assert(in.m2[0] == 0);
    data_in_close(&in);
}
END_TEST

START_TEST(truncated_anywhere)
{
    unsigned char packed[128];
    size_t n = gzip(sound, sizeof sound, packed, sizeof packed);

    for (size_t k = 0; k <= sizeof sound; k++) {
        ck_assert_int_eq(convert(sound, k, DATA_FEATURES, &classes, NULL), k < sizeof sound ? ERR_SYNTAX : ERR_OK);
        ck_assert_int_eq(files_in_dir(), k < sizeof sound ? 1 : 2);
    }
    unlink(x_path);
    for (size_t k = 0; k <= n; k++) {
        ck_assert_int_eq(convert(packed, k, DATA_FEATURES, &classes, NULL), k < n ? ERR_SYNTAX : ERR_OK);
        ck_assert_int_eq(files_in_dir(), k < n ? 1 : 2);
    }
}
END_TEST

START_TEST(flipped_anywhere)
{
    unsigned char packed[128], bad[128];
    size_t n = gzip(sound, sizeof sound, packed, sizeof packed);

    for (size_t bit = 0; bit < 8 * n; bit++) {
        enum err_code rc;

        memcpy(bad, packed, n);
        bad[bit / 8] ^= (unsigned char)(1 << bit % 8);
        rc = convert(bad, n, DATA_FEATURES, &classes, NULL);
        if (bit / 8 >= 10 && !(rc == ERR_OK && bit / 8 == n - 9)) /* behind the header every bit counts, but for the padding before the CRC */
            ck_assert_msg(rc == ERR_SYNTAX || rc == ERR_INVALID || rc == ERR_TOO_LARGE, "bit %zu: %d", bit, rc);
        ck_assert_int_eq(files_in_dir(), rc == ERR_OK ? 2 : 1);
        unlink(x_path);
    }
    for (size_t bit = 0; bit < 8 * 16; bit++) { /* of the IDX head */
        enum err_code rc;

        memcpy(bad, sound, sizeof sound);
        bad[bit / 8] ^= (unsigned char)(1 << bit % 8);
        rc = convert(bad, sizeof sound, DATA_FEATURES, &classes, NULL);
        ck_assert(rc == ERR_OK ? bit / 8 == 2 : rc == ERR_SYNTAX || rc == ERR_INVALID || rc == ERR_TOO_LARGE);
        unlink(x_path);
    }
}
END_TEST

START_TEST(gzip_members_and_garbage)
{
    unsigned char packed[256];
    size_t a = gzip(sound, 20, packed, sizeof packed), b = gzip(sound + 20, sizeof sound - 20, packed + a, sizeof packed - a);
    struct err e = { 0 };

    ck_assert_int_eq(convert(packed, a + b, DATA_FEATURES, &classes, &e), ERR_OK);
    unlink(x_path);
    packed[a + b] = 'x';
    ck_assert_int_eq(convert(packed, a + b + 1, DATA_FEATURES, &classes, &e), ERR_SYNTAX);
    ck_assert_ptr_nonnull(strstr(e.msg, "neither the end nor a further member"));
    a = gzip(sound, sizeof sound, packed, sizeof packed);
    b = gzip(sound, 1, packed + a, sizeof packed - a);
    ck_assert_int_eq(convert(packed, a + b, DATA_FEATURES, &classes, &e), ERR_SYNTAX);
    ck_assert_ptr_nonnull(strstr(e.msg, "goes on after the last number at offset 28"));
    ck_assert_int_eq(files_in_dir(), 1);
}
END_TEST

START_TEST(limits)
{
    enum { ZEROS = 4 << 20 };
    unsigned char head[] = { 0, 0, 8, 2, 0, 0x40, 0, 0, 0, 0, 0, 1 };
    unsigned char *all = mem_zalloc(1, ZEROS + sizeof head), *packed = mem_alloc(1 << 20);
    struct err e = { 0 };
    size_t n;

    memcpy(all, head, sizeof head);
    n = gzip(all, ZEROS + sizeof head, packed, 1 << 20);
    ck_assert_int_eq(file_write(upload, packed, n, NULL), ERR_OK);
    ck_assert_int_eq(data_convert(upload, false, DATA_TRAIN, DATA_FEATURES, &classes, x_path, NULL, NULL, NULL, 0, &e), ERR_TOO_LARGE);
    ck_assert_ptr_nonnull(strstr(e.msg, "100 times"));
    ck_assert_int_eq(file_write(upload, all, ZEROS + sizeof head, NULL), ERR_OK);
    ck_assert_int_eq(data_convert(upload, false, DATA_TRAIN, DATA_FEATURES, &classes, x_path, NULL, NULL, NULL, ZEROS, &e), ERR_TOO_LARGE);
    ck_assert_int_eq(files_in_dir(), 1);
    ck_assert_int_eq(data_convert(upload, false, DATA_TRAIN, DATA_FEATURES, &classes, x_path, NULL, NULL, NULL, ZEROS + sizeof head, &e), ERR_OK);
    mem_free(all);
    mem_free(packed);
}
END_TEST

/* ---- between the files ---- */

#define DATA(name, ...) static const unsigned char name[] = { __VA_ARGS__ }
DATA(three_samples, 0, 0, 8, 1, 0, 0, 0, 3, 1, 2, 3);
DATA(two_samples, 0, 0, 8, 1, 0, 0, 0, 2, 5, 6);
DATA(wide_samples, 0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 2, 5, 6, 7, 8);
DATA(three_labels, 0, 0, 8, 1, 0, 0, 0, 3, 0, 1, 2);
DATA(unknown_label, 0, 0, 8, 1, 0, 0, 0, 2, 0, 3);
DATA(one_class, 0, 0, 8, 1, 0, 0, 0, 3, 0, 0, 0);
#undef DATA
#define FILE_OF(x) { x, sizeof x }
static const struct { struct { const unsigned char *bytes; size_t n; } file[DATA_SPLITS][2]; const char *at, *says; } sets[] = {
    { { { FILE_OF(three_samples), FILE_OF(three_labels) }, { { 0 } }, { FILE_OF(two_samples), FILE_OF(two_classes) } }, NULL, NULL },
    { { { { 0 } } }, "/train/features", "not uploaded" },
    { { { FILE_OF(three_samples) } }, "/train/labels", "not uploaded" },
    { { { { 0 }, FILE_OF(three_labels) } }, "/train/features", "not uploaded" },
    { { { FILE_OF(three_samples), FILE_OF(two_classes) } }, "/train/labels", "2 labels, but the features are 3 samples" },
    { { { FILE_OF(three_samples), FILE_OF(one_class) } }, "/train/labels", "at least two classes" },
    { { { FILE_OF(three_samples), FILE_OF(three_labels) }, { FILE_OF(wide_samples), FILE_OF(two_classes) } }, "/validation/features",
      "shape (2,), but (1,)" },
    { { { FILE_OF(three_samples), FILE_OF(three_labels) }, { FILE_OF(two_samples) } }, "/validation/labels", "not uploaded" },
    { { { FILE_OF(three_samples), FILE_OF(three_labels) }, { { 0 } }, { FILE_OF(two_samples), FILE_OF(unknown_label) } }, "/test/labels",
      "class 3 is not in the train split, which has 0 to 2" },
};

START_TEST(between_the_files)
{
    static char path[DATA_SPLITS][2][64];
    const char *paths[DATA_SPLITS][2] = { { NULL } };
    struct dataset *d = NULL;
    struct err e = { 0 };
    enum err_code rc;

    for (int id = 0; id < DATA_SPLITS; id++)
        for (int part = 0; part < 2; part++)
            if (sets[_i].file[id][part].n > 0) {
                snprintf(path[id][part], sizeof path[id][part], "%s/%d%d", dir, id, part);
                ck_assert_int_eq(convert(sets[_i].file[id][part].bytes, sets[_i].file[id][part].n, (enum data_part)part, &classes, &e), ERR_OK);
                ck_assert_int_eq(rename(x_path, path[id][part]), 0);
                paths[id][part] = path[id][part];
            }
    rc = dataset_open(&d, &classes, paths, &e);
    for (int i = 0; i < DATA_SPLITS * 2; i++)
        if (paths[i / 2][i % 2])
            unlink(paths[i / 2][i % 2]);
    if (!sets[_i].at) {
        ck_assert_int_eq(rc, ERR_OK);
        ck_assert_int_eq(d->n_classes, 3);
        ck_assert_ptr_null(d->classes);
        dataset_free(d);
        return;
    }
    ck_assert_int_eq(rc, ERR_INVALID);
    ck_assert_str_eq(e.at, sets[_i].at);
    ck_assert_msg(strstr(e.msg, sets[_i].says) != NULL, "\"%s\" does not say \"%s\"", e.msg, sets[_i].says);
}
END_TEST

START_TEST(compact_file_cut_anywhere)
{
    const char *paths[DATA_SPLITS][2] = { { x_path, x_path } };
    struct file_map m;
    struct dataset *d;

    ck_assert_int_eq(convert(sound, sizeof sound, DATA_FEATURES, &classes, NULL), ERR_OK);
    ck_assert_int_eq(file_map_open(&m, x_path, NULL), ERR_OK);
    for (size_t n = 0; n < m.len; n += n < 96 || n >= 4096 ? 1 : 500) {
        ck_assert_int_eq(file_write(upload, m.data, n, NULL), ERR_OK);
        paths[0][0] = paths[0][1] = upload;
        ck_assert_int_eq(dataset_open(&d, &classes, paths, NULL), ERR_SYNTAX);
    }
    file_map_close(&m);
}
END_TEST

/* ---- failures of the machine ---- */

START_TEST(failures)
{
    unsigned char packed[128];
    size_t n = gzip(three_labels, sizeof three_labels, packed, sizeof packed);
    long *const countdown[] = { &mem_fail_in, &file_fail_in };

    json_set_alloc_funcs(mem_alloc, mem_free);
    for (int i = 0; i < 2; i++) {
        bool fired = true;

        ck_assert_int_eq(file_write(upload, packed, n, NULL), ERR_OK);
        for (long k = 1; fired; k++) {
            struct data_file_info info = { .json = NULL };
            enum err_code rc;

            *countdown[i] = k;
            rc = data_convert(upload, false, DATA_TRAIN, DATA_LABELS, &classes, NULL, x_path, NULL, &info, 0, NULL);
            fired = *countdown[i] == 0;
            *countdown[i] = 0;
            ck_assert(rc == ERR_OK || rc == (i ? ERR_NO_SPACE : ERR_NOMEM));
            ck_assert((rc == ERR_OK) == (info.json != NULL));
            ck_assert_int_eq(files_in_dir(), rc == ERR_OK ? 2 : 1);
            json_decref(info.json);
            unlink(x_path);
        }
    }
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "idx");

    tcase_add_checked_fixture(tc, make_dir, remove_dir);
    tcase_add_loop_test(tc, refuses, 0, sizeof refused / sizeof refused[0]);
    tcase_add_loop_test(tc, reads_every_type, 0, sizeof types / sizeof types[0]);
    tcase_add_loop_test(tc, channels_are_scaled, 0, 2);
    tcase_add_test(tc, sums_of_bytes);
    tcase_add_test(tc, truncated_anywhere);
    tcase_add_test(tc, flipped_anywhere);
    tcase_add_test(tc, gzip_members_and_garbage);
    tcase_add_test(tc, limits);
    tcase_add_loop_test(tc, between_the_files, 0, sizeof sets / sizeof sets[0]);
    tcase_add_test(tc, compact_file_cut_anywhere);
    tcase_add_test(tc, failures);
}
SUITE_MAIN("data_idx", cases)
