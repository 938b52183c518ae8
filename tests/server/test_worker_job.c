/* A real, small job through store and workers: from files to result; stopped half-way and run to the same bytes; refused for memory; a damaged file; a
 * full disk and every other failure of a file on the way. */
#include <time.h>

#include "server/log.h"
#include "server/worker_impl.h"
#include "tests/server/store_fixture.h"

enum { SAMPLES = 400 };
static const char net_json[] =
    "{\"class_name\": \"Sequential\", \"config\": {\"name\": \"small\", \"layers\": ["
    "{\"class_name\": \"InputLayer\", \"config\": {\"batch_input_shape\": [null, 4], \"dtype\": \"float32\", \"name\": \"in\"}},"
    "{\"class_name\": \"Dense\", \"config\": {\"name\": \"dense\", \"units\": 16, \"activation\": \"relu\", \"use_bias\": true}},"
    "{\"class_name\": \"Dense\", \"config\": {\"name\": \"out\", \"units\": 3, \"activation\": \"softmax\", \"use_bias\": true}}]},"
    "\"keras_version\": \"2.12.0\", \"backend\": \"tensorflow\"}";
static struct workers *pool;

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
}

static void setup(void)
{
    log_set_level(LOG_ERROR);
    store_setup();
}

static void teardown(void)
{
    workers_free(pool);
    pool = NULL;
    store_teardown();
}

static void start(uint64_t memory, int threads)
{
    OK(workers_start_with(&pool, st, 1, &(struct run_conf){ threads, memory, 0.05, worker_run }, &err));
    workers_wake(pool);
}

static enum job_state wait_end(const char *id)
{
    int64_t begun = clock_mono_ms();

    while (!job_state_final(state_now(id))) {
        ck_assert_msg(clock_mono_ms() - begun < 60000, "the job does not end");
        sleep_ms(5);
    }
    return state_now(id);
}

/* A blob with this text. */
static struct blob text_blob(const char *text)
{
    struct blob b = { .bytes = strlen(text) };
    char path[4096];
    struct file_out *f = NULL;

    blob_new(st, b.id, path, sizeof path);
    OK(file_out_new(&f, path, &err));
    OK(file_out_write(f, text, strlen(text), &err));
    OK(file_out_publish(f, b.hash, &err));
    file_out_free(f);
    return b;
}

static struct dataset_part part_of(const char *id, const struct data_file_info *info)
{
    struct dataset_part p = { .blob = { .bytes = info->bytes }, .info = (char *)(uintptr_t)"{}" };

    memcpy(p.blob.id, id, ID_LEN);
    memcpy(p.blob.hash, info->hash, FILE_HASH_LEN);
    return p;
}

/* Three classes on a line, with some noise. */
static void make_table(char *path, size_t n)
{
    FILE *f;
    unsigned noise = 1;

    store_temp_path(st, path, n);
    f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    for (int i = 0; i < SAMPLES; i++) {
        int class = i % 3;

        for (int k = 0; k < 4; k++) {
            noise = noise * 1664525u + 1013904223u;
            fprintf(f, "%.3f,", class * (k + 1) * 0.5 + (noise >> 20) / 4096.0);
        }
        fprintf(f, "%d\n", class);
    }
    fclose(f);
}

static struct dataset_row real_dataset(void)
{
    struct dataset_row d = { .tenant = TENANT_DEFAULT, .name = "data", .conf = (char *)(uintptr_t)"{}" };
    struct data_conf conf;
    struct data_file_info info[2] = { { .bytes = 0 } };
    struct dataset_part part[2];
    char table[4096], features[4096], labels[4096], id[2][ID_LEN];

    id_new(d.id, "dst");
    OK(store_dataset_add(st, &d, &err));
    OK(params_parse(&conf, sizeof conf, data_params, NULL, &err));
    make_table(table, sizeof table);
    blob_new(st, id[0], features, sizeof features);
    blob_new(st, id[1], labels, sizeof labels);
    OK(data_convert(table, false, DATA_TRAIN, DATA_TABLE, &conf, features, labels, &info[0], &info[1], 1 << 20, &err));
    for (int i = 0; i < 2; i++) {
        part[i] = part_of(id[i], &info[i]);
        json_decref(info[i].json);
    }
    OK(store_dataset_set_part(st, TENANT_DEFAULT, d.id, DATA_TRAIN, &part[0], &part[1], &err));
    return d;
}

static struct job_row real_job(const char *conf_text)
{
    struct model_row m = { .tenant = TENANT_DEFAULT, .name = "small", .architecture = text_blob(net_json), .summary = (char *)(uintptr_t)"{}" };
    struct dataset_row d = real_dataset();
    struct job_row j;
    struct job_conf *conf = mem_zalloc(1, sizeof *conf);
    json_t *doc = json_loads(conf_text, 0, NULL), *full;

    ck_assert_ptr_nonnull(doc);
    id_new(m.id, "mdl");
    OK(store_model_add(st, &m, &err));
    j = job_for(&m, &d, 0);
    json_object_set_new(doc, "model", json_string(m.id));
    json_object_set_new(doc, "dataset", json_string(d.id));
    OK(job_conf_parse(conf, doc, false, &err));
    full = job_conf_dump(conf);
    j.conf = json_dumps(full, JSON_COMPACT);
    OK(store_job_add(st, &j, &err));
    mem_free(j.conf);
    j.conf = NULL;
    json_decref(full);
    json_decref(doc);
    mem_free(conf);
    return j;
}

static const char usual[] = "{\"train\": {\"epochs\": 20, \"batch_size\": 32}, \"retrain\": {\"epochs\": 3},"
                            " \"prune\": {\"iterations\": 4, \"target_sparsity\": 0.8}}";

/* Hashes of all that the job published. */
static void fingerprint(char *text, size_t n, const char *id)
{
    ck_assert_uint_eq(n, 4096);
    *text = '\0';
    OK(store_read(st, "SELECT i.iteration, b.hash FROM iterations i JOIN blobs b ON b.id = i.weights WHERE i.job = $1 ORDER BY i.iteration",
                  ARGS(DB_S(id)), dump_row, text, &err));
    OK(store_read(st, "SELECT b.hash, j.n_iterations FROM jobs j JOIN blobs b ON b.id = j.result_weights WHERE j.id = $1",
                  ARGS(DB_S(id)), dump_row, text, &err));
}

START_TEST(from_files_to_result)
{
    struct job_row j = real_job(usual), got = { 0 };

    start(UINT64_MAX, 1);
    ck_assert_int_eq(wait_end(j.id), JOB_SUCCEEDED);
    OK(store_job_get(st, TENANT_DEFAULT, j.id, &got, &err));
    ck_assert_int_eq(got.n_iterations, 4);
    ck_assert(got.baseline && got.result && got.progress && blob_exists(got.result_weights));
    ck_assert_ptr_nonnull(strstr(got.progress, "\"eta_seconds\":0"));
    job_row_clear(&got);
    ck_assert_int_eq(files_in_blobs(), check_invariants());
}
END_TEST

START_TEST(stopped_and_run_to_the_same_bytes)
{
    struct job_row a = real_job("{\"train\": {\"epochs\": 400, \"batch_size\": 8}, \"retrain\": {\"epochs\": 40, \"batch_size\": 8},"
                                " \"prune\": {\"iterations\": 4, \"target_sparsity\": 0.8}}");
    struct job_row b = a, got = { 0 };
    char want[4096], have[4096];
    int stops = 0;

    OK(store_job_get(st, TENANT_DEFAULT, a.id, &got, &err));
    id_new(b.id, "job");
    b.conf = got.conf;
    start(UINT64_MAX, 1);
    ck_assert_int_eq(wait_end(a.id), JOB_SUCCEEDED);
    workers_free(pool);
    pool = NULL;
    OK(store_job_add(st, &b, &err));
    for (; !job_state_final(state_now(b.id)); stops++) {
        start(UINT64_MAX, 2);
        sleep_ms(stops < 20 ? 60 + 10 * stops : 2000);
        workers_free(pool);
        pool = NULL;
        store_reopen();
    }
    ck_assert_int_eq(state_now(b.id), JOB_SUCCEEDED);
    fingerprint(want, sizeof want, a.id);
    fingerprint(have, sizeof have, b.id);
    ck_assert_str_eq(want, have);
    ck_assert_int_eq(files_in_blobs(), check_invariants());
    job_row_clear(&got);
}
END_TEST

/* Nothing is done twice: what is paused has been saved. */
START_TEST(paused_and_resumed_to_the_same_bytes)
{
    struct job_row a = real_job("{\"train\": {\"epochs\": 400, \"batch_size\": 8}, \"retrain\": {\"epochs\": 40, \"batch_size\": 8},"
                                " \"prune\": {\"iterations\": 4, \"target_sparsity\": 0.8}}");
    struct job_row b = a, got = { 0 };
    char want[4096], have[4096];
    enum job_state now;
    int pauses = 0;

    OK(store_job_get(st, TENANT_DEFAULT, a.id, &got, &err));
    id_new(b.id, "job");
    b.conf = got.conf;
    start(UINT64_MAX, 1);
    ck_assert_int_eq(wait_end(a.id), JOB_SUCCEEDED);
    OK(store_job_add(st, &b, &err));
    workers_wake(pool);
    for (; pauses < 5 && state_now(b.id) != JOB_SUCCEEDED; pauses++) {
        int64_t begun;

        while (state_now(b.id) == JOB_QUEUED)
            sleep_ms(1);
        sleep_ms(20 + 10 * pauses);
        if (store_job_pause(st, TENANT_DEFAULT, b.id, 1, &now, &err) != ERR_OK)
            break; /* it is over */
        workers_pause(pool, b.id);
        begun = clock_mono_ms();
        while (state_now(b.id) != JOB_PAUSED && !job_state_final(state_now(b.id)))
            ck_assert_int_lt(clock_mono_ms() - begun, 20000);
        if (pauses == 1) { /* it stays so over a restart */
            workers_free(pool);
            store_reopen();
            start(UINT64_MAX, 1);
            ck_assert_int_eq(state_now(b.id), JOB_PAUSED);
        }
        if (store_job_resume(st, TENANT_DEFAULT, b.id, 1, &now, &err) == ERR_OK)
            workers_wake(pool);
    }
    ck_assert_int_gt(pauses, 0);
    ck_assert_int_eq(wait_end(b.id), JOB_SUCCEEDED);
    fingerprint(want, sizeof want, a.id);
    fingerprint(have, sizeof have, b.id);
    ck_assert_str_eq(want, have);
    job_row_clear(&got);
}
END_TEST

START_TEST(needs_more_memory)
{
    struct job_row j = real_job(usual), got = { 0 };

    start(1000, 1);
    ck_assert_int_eq(wait_end(j.id), JOB_FAILED);
    OK(store_job_get(st, TENANT_DEFAULT, j.id, &got, &err));
    ck_assert_ptr_nonnull(strstr(got.error, "needs more memory"));
    job_row_clear(&got);
    ck_assert_int_eq(files_in_blobs(), check_invariants());
}
END_TEST

START_TEST(a_damaged_file_fails_the_job)
{
    struct job_row j = real_job(usual), got = { 0 };
    char path[4096];

    blob_path(st, j.architecture, path, sizeof path);
    OK(file_write(path, "{", 1, &err));
    start(UINT64_MAX, 1);
    ck_assert_int_eq(wait_end(j.id), JOB_FAILED);
    OK(store_job_get(st, TENANT_DEFAULT, j.id, &got, &err));
    ck_assert_ptr_nonnull(strstr(got.error, "\"malformed\""));
    job_row_clear(&got);
}
END_TEST

/* The k-th failure of a file, of the database or of memory, for a job that the test runs in its own thread: an error, and only what rows name stays. An
 * allocation for progress alone may fail unseen: then the job is finished all the same. */
START_TEST(failures_on_the_way)
{
    struct job_row posted = real_job(usual), j = claim_job();
    struct lease l = { .store = st, .token = j.lease_token };
    const struct run_conf c = { 1, UINT64_MAX, 1000, worker_run };
    long *fail_in = _i == 0 ? &file_fail_in : _i == 1 ? &db_fail_in : &mem_fail_in;
    long step = _i == 2 ? 7 : 1;
    bool fired = true;

    json_set_alloc_funcs(mem_alloc, mem_free);
    snprintf(l.id, sizeof l.id, "%s", posted.id);
    pthread_mutex_init(&l.progress_lock, NULL);
    for (long k = 1; fired; k += step) {
        enum err_code rc;

        atomic_store(&l.renewed, clock_mono_ms());
        *fail_in = k;
        rc = worker_run(&l, &j, &c, &err);
        fired = *fail_in == 0;
        *fail_in = 0;
        if (fired) {
            ck_assert_msg(rc != ERR_OK || _i == 2, "failure %ld went unseen", k);
            ck_assert_int_eq(files_in_blobs(), check_invariants());
        }
        job_row_clear(&j);
        ck_assert_int_eq(state_now(posted.id), rc == ERR_OK ? JOB_SUCCEEDED : JOB_RUNNING);
        if (rc == ERR_OK)
            break;
        OK(store_job_release(st, posted.id, l.token, 5, &err));
        j = claim_job();
        l.token = j.lease_token;
    }
    pthread_mutex_destroy(&l.progress_lock);
    job_row_clear(&j);
    ck_assert_int_eq(files_in_blobs(), check_invariants());
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "worker job");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, from_files_to_result);
    tcase_add_test(tc, stopped_and_run_to_the_same_bytes);
    tcase_add_test(tc, paused_and_resumed_to_the_same_bytes);
    tcase_add_test(tc, needs_more_memory);
    tcase_add_test(tc, a_damaged_file_fails_the_job);
    tcase_add_loop_test(tc, failures_on_the_way, 0, 3);
}
SUITE_MAIN("worker job", cases)
