/* Files that are whole or not there: their hash however they are written, in one thread or by one that follows; nothing stays of what was given up or failed. */
#include <string.h>
#include <sys/stat.h>

#include <nettle/sha2.h>

#include "core/mem.h"
#include "tests/core/data_fixture.h"

enum { LARGE = 20 << 20 };

static unsigned char *noise(size_t n)
{
    unsigned char *x = mem_alloc(n);
    uint32_t r = 1;

    for (size_t i = 0; i < n; i++)
        x[i] = (unsigned char)((r = r * 1664525 + 1013904223) >> 24);
    return x;
}

static void hash_of(char hash[FILE_HASH_LEN], const unsigned char *x, size_t n)
{
    struct sha256_ctx sha;
    uint8_t digest[SHA256_DIGEST_SIZE];

    sha256_init(&sha);
    sha256_update(&sha, n, x);
    sha256_digest(&sha, sizeof digest, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(hash + 2 * i, 3, "%02x", digest[i]);
}

static const struct { size_t total, piece; } sizes[] = {
    { 0, 1 }, { 1, 1 }, { 70000, 999 }, { LARGE, 1 << 20 }, { LARGE, 65072 }, { LARGE - 1, 4099 }, { LARGE + 3, 50000 }, { 8 << 20, 8 << 20 },
};

START_TEST(hash_of_all_sizes)
{
    unsigned char *x = noise(LARGE + 3);
    char got[FILE_HASH_LEN], want[FILE_HASH_LEN];
    struct file_out *f;
    struct file_map map;
    size_t total = sizes[_i].total;

    ck_assert_int_eq(file_out_new(&f, x_path, NULL), ERR_OK);
    for (size_t at = 0; at < total; at += sizes[_i].piece)
        ck_assert_int_eq(file_out_write(f, x + at, total - at < sizes[_i].piece ? total - at : sizes[_i].piece, NULL), ERR_OK);
    ck_assert_uint_eq(file_out_size(f), total);
    ck_assert_int_eq(file_out_publish(f, got, NULL), ERR_OK);
    file_out_free(f);
    hash_of(want, x, total);
    ck_assert_str_eq(got, want);
    ck_assert_int_eq(file_map_open(&map, x_path, NULL), ERR_OK);
    ck_assert(map.len == total && memcmp(map.data, x, total) == 0);
    file_map_close(&map);
    mem_free(x);
}
END_TEST

/* Given up at any time, or failed at any write, sync or rename: nothing stays, and no thread goes on. */
START_TEST(nothing_stays)
{
    enum { PIECE = 3 << 20, PIECES = 6 };
    unsigned char *x = noise(PIECE);
    struct file_out *f;
    bool fired = true;

    for (int n = 0; n <= PIECES; n++) {
        ck_assert_int_eq(file_out_new(&f, x_path, NULL), ERR_OK);
        for (int i = 0; i < n; i++)
            ck_assert_int_eq(file_out_write(f, x, PIECE, NULL), ERR_OK);
        file_out_free(f);
        ck_assert_int_eq(files_in_dir(), 0);
    }
    for (long k = 1; fired; k++) {
        enum err_code rc;

        file_fail_in = k;
        f = NULL;
        rc = file_out_new(&f, x_path, NULL);
        for (int i = 0; i < PIECES && rc == ERR_OK; i++)
            rc = file_out_write(f, x, PIECE, NULL);
        if (rc == ERR_OK)
            rc = file_out_publish(f, NULL, NULL);
        file_out_free(f);
        fired = file_fail_in == 0;
        file_fail_in = 0;
        ck_assert(rc == (fired ? ERR_NO_SPACE : ERR_OK));
        ck_assert_int_eq(files_in_dir(), !fired);
    }
    mem_free(x);
}
END_TEST

/* A scratch upload becomes the same file as one that stays as it is. */
START_TEST(consumed)
{
    enum { SIDE = 1 << 10, SAMPLES = 12 << 10 };
    static const unsigned char head[] = { 0, 0, 8, 2, 0, 0, SAMPLES >> 8, 0, 0, 0, SIDE >> 8, 0 };
    static const struct data_conf conf;
    size_t n = sizeof head + (size_t)SIDE * SAMPLES;
    unsigned char *x = noise(n);
    struct data_file_info info[2];
    struct stat before, after;

    memcpy(x, head, sizeof head);
    ck_assert_int_eq(file_write(upload, x, n, NULL), ERR_OK);
    ck_assert_int_eq(stat(upload, &before), 0);
    for (int scratch = 0; scratch < 2; scratch++)
        ck_assert_int_eq(data_convert(upload, scratch, DATA_TRAIN, DATA_FEATURES, &conf, scratch ? y_path : x_path, NULL, &info[scratch], NULL, 0, NULL), ERR_OK);
    ck_assert_str_eq(info[0].hash, info[1].hash);
    ck_assert_int_eq(stat(upload, &after), 0);
    ck_assert(after.st_size == before.st_size && after.st_blocks <= before.st_blocks);
    json_decref(info[0].json);
    json_decref(info[1].json);
    mem_free(x);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "file");

    tcase_add_checked_fixture(tc, make_dir, remove_dir);
    tcase_add_loop_test(tc, hash_of_all_sizes, 0, sizeof sizes / sizeof sizes[0]);
    tcase_add_test(tc, nothing_stays);
    tcase_add_test(tc, consumed);
}
SUITE_MAIN("file", cases)
