/* Models, data sets, jobs as clients see them: what was added is read back, pages cover all, conflicts change nothing, files follow their rows. */
#include "tests/server/store_fixture.h"

START_TEST(ids_work)
{
    char a[ID_LEN], b[ID_LEN] = "";

    for (int i = 0; i < 2000; i++) {
        id_new(a, "mdl");
        ck_assert(id_valid(a, "mdl"));
        ck_assert(strcmp(a, b) > 0);
        memcpy(b, a, sizeof b);
    }
    ck_assert(!id_valid(a, "job") && !id_valid("mdl_", "mdl") && !id_valid("mdl_00000000000000000A00", "mdl"));
    ck_assert(!id_valid("mdl_0000000000000000000/", "mdl") && !id_valid("mdl_000000000000000000000", "mdl") && !id_valid("", "mdl"));
}
END_TEST

START_TEST(transitions_work) /* all pairs */
{
    static const char *const may[] = { "queued running", "queued paused", "queued cancelled", "running queued", "running paused", "running cancelling",
                                       "running succeeded", "running failed", "paused queued", "paused cancelled", "cancelling cancelled" };
    char pair[64];
    enum job_state parsed;

    for (int from = 0; from < JOB_STATES; from++)
        for (int to = 0; to < JOB_STATES; to++) {
            bool listed = false;

            snprintf(pair, sizeof pair, "%s %s", job_state_name(from), job_state_name(to));
            for (size_t i = 0; i < sizeof may / sizeof may[0]; i++)
                listed |= strcmp(pair, may[i]) == 0;
            ck_assert_msg(job_may_move(from, to) == listed, "%s", pair);
            ck_assert(!(job_state_final(from) && job_may_move(from, to)));
        }
    for (int s = 0; s < JOB_STATES; s++)
        ck_assert(job_state_parse(job_state_name(s), &parsed) && parsed == (enum job_state)s);
    ck_assert(!job_state_parse("", &parsed) && !job_state_parse("Queued", &parsed));
}
END_TEST

START_TEST(models_work)
{
    struct model_row m = make_model(false), got = { 0 };
    struct blob w = make_blob(), second = make_blob();

    OK(store_model_get(st, TENANT_DEFAULT, m.id, &got, &err));
    ck_assert_str_eq(got.name, "net");
    ck_assert_str_eq(got.summary, "{\"n\":1}");
    ck_assert_str_eq(got.architecture.id, m.architecture.id);
    ck_assert_uint_eq(got.architecture.bytes, 3);
    ck_assert_str_eq(got.weights.id, "");
    model_row_clear(&got);
    OK(store_model_set_weights(st, TENANT_DEFAULT, m.id, &w, "{\"n\":2}", &err));
    ck_assert_int_eq(store_model_set_weights(st, TENANT_DEFAULT, m.id, &second, "{}", &err), ERR_CONFLICT);
    ck_assert_int_eq(store_model_set_weights(st, TENANT_DEFAULT, "mdl_none", &second, "{}", &err), ERR_NOT_FOUND);
    blob_discard(st, second.id);
    OK(store_model_get(st, TENANT_DEFAULT, m.id, &got, &err));
    ck_assert_str_eq(got.weights.id, w.id);
    ck_assert_str_eq(got.summary, "{\"n\":2}");
    model_row_clear(&got);
    ck_assert_int_eq(check_invariants(), 2);
    OK(store_model_delete(st, TENANT_DEFAULT, m.id, &err));
    ck_assert_int_eq(store_model_delete(st, TENANT_DEFAULT, m.id, &err), ERR_NOT_FOUND);
    ck_assert_int_eq(store_model_get(st, TENANT_DEFAULT, m.id, &got, &err), ERR_NOT_FOUND);
    ck_assert_int_eq(check_invariants(), 0);
    ck_assert_int_eq(files_in_blobs(), 0);
}
END_TEST

START_TEST(datasets_work)
{
    struct dataset_row d = make_dataset(), got = { 0 };
    struct dataset_part f = { make_blob(), (char *)(uintptr_t)"{\"kind\":\"features\"}" };
    struct dataset_part l = { make_blob(), (char *)(uintptr_t)"{\"kind\":\"classes\"}" };
    struct dataset_part other = { make_blob(), (char *)(uintptr_t)"{}" };

    OK(store_dataset_set_part(st, TENANT_DEFAULT, d.id, 0, &f, NULL, &err));
    OK(store_dataset_set_part(st, TENANT_DEFAULT, d.id, 2, NULL, &l, &err));
    ck_assert_int_eq(store_dataset_set_part(st, TENANT_DEFAULT, d.id, 2, &other, &other, &err), ERR_CONFLICT); /* features are new, labels are not: neither is taken */
    ck_assert_int_eq(store_dataset_set_part(st, TENANT_DEFAULT, "dst_none", 0, &other, NULL, &err), ERR_NOT_FOUND);
    blob_discard(st, other.blob.id);
    OK(store_dataset_get(st, TENANT_DEFAULT, d.id, &got, &err));
    ck_assert_str_eq(got.part[0][0].blob.id, f.blob.id);
    ck_assert_str_eq(got.part[0][0].info, f.info);
    ck_assert_str_eq(got.part[2][1].blob.id, l.blob.id);
    for (int i = 0; i < 6; i++)
        ck_assert((i == 0 || i == 5) == (*got.part[i / 2][i % 2].blob.id != '\0'));
    dataset_row_clear(&got);
    ck_assert_int_eq(check_invariants(), 2);
    OK(store_dataset_delete(st, TENANT_DEFAULT, d.id, &err));
    ck_assert_int_eq(store_dataset_delete(st, TENANT_DEFAULT, d.id, &err), ERR_NOT_FOUND);
    ck_assert_int_eq(check_invariants(), 0);
    ck_assert_int_eq(files_in_blobs(), 0);
}
END_TEST

/* ---- pages ---- */

struct seen { char id[16][ID_LEN]; int n; };

static enum err_code see(void *user, const void *row, struct err *e)
{
    struct seen *s = user;

    (void)e;
    snprintf(s->id[s->n++], ID_LEN, "%s", (const char *)row); /* id is the first member of every row */
    return ERR_OK;
}

static enum err_code refuse(void *user, const void *row, struct err *e)
{
    (void)user;
    (void)row;
    return err_set(e, ERR_TOO_LARGE, "enough");
}

typedef enum err_code list_fn(struct store *s, const struct page *p, store_row_fn *fn, void *user, bool *more, struct err *e);

static void check_pages(list_fn *list, char (*ids)[ID_LEN], int n, const char *state)
{
    for (int limit = 1; limit <= n + 1; limit++) {
        struct page p = { .tenant = TENANT_DEFAULT, .limit = limit, .state = state };
        struct seen all = { .n = 0 };
        bool more = true;

        while (more) {
            int before = all.n;

            OK(list(st, &p, see, &all, &more, &err));
            ck_assert_int_le(all.n - before, limit);
            ck_assert(more == (all.n < n));
            if (all.n > 0)
                snprintf(p.after, sizeof p.after, "%s", all.id[all.n - 1]);
        }
        ck_assert_int_eq(all.n, n);
        for (int i = 0; i < n; i++)
            ck_assert_str_eq(all.id[i], ids[n - 1 - i]);
    }
    ck_assert_int_eq(list(st, &(struct page){ .tenant = TENANT_DEFAULT, .limit = 5 }, refuse, NULL, &(bool){ false }, &err), n ? ERR_TOO_LARGE : ERR_OK);
}

/* The answer stands when what was made stands; a key is under way once at a time; a day later it is free. */
START_TEST(answers_work)
{
    const struct answer a = { "key", "print", "/v1/datasets/x", "{\"id\":1}", 1000 };
    struct dataset_row d = { .tenant = TENANT_DEFAULT, .name = "d", .conf = (char *)(uintptr_t)"{}", .answer = &a };
    char location[160] = "", *body = NULL;
    const int64_t day = ANSWER_KEEP_MS;

    OK(store_answer_begin(st, TENANT_DEFAULT, "key", "print", 1000, location, sizeof location, &body, &err));
    ck_assert_ptr_null(body);
    ck_assert_int_eq(store_answer_begin(st, TENANT_DEFAULT, "key", "print", 1000, location, sizeof location, &body, &err), ERR_CONFLICT);
    OK(store_answer_begin(st, TENANT_DEFAULT, "another", "print", 1000, location, sizeof location, &body, &err));
    id_new(d.id, "dst");
    for (long k = 1; k <= 2; k++) { /* the data set's row, the answer's */
        db_fail_in = 1 + k;
        ck_assert_int_eq(store_dataset_add(st, &d, &err), ERR_NO_SPACE);
    }
    db_fail_in = 0;
    store_answer_end(st, TENANT_DEFAULT, "another");
    store_answer_end(st, TENANT_DEFAULT, "key");
    OK(store_answer_begin(st, TENANT_DEFAULT, "key", "print", 1000, location, sizeof location, &body, &err)); /* nothing was made: not remembered */
    ck_assert_ptr_null(body);
    OK(store_dataset_add(st, &d, &err));
    store_answer_end(st, TENANT_DEFAULT, "key");
    for (int i = 0; i < 2; i++) {
        OK(store_answer_begin(st, TENANT_DEFAULT, "key", "print", 1000 + day - 1, location, sizeof location, &body, &err));
        ck_assert_str_eq(body, "{\"id\":1}");
        ck_assert_str_eq(location, "/v1/datasets/x");
        mem_free(body);
        ck_assert_int_eq(store_answer_begin(st, TENANT_DEFAULT, "key", "other", 2000, location, sizeof location, &body, &err), ERR_INVALID);
        store_reopen();
    }
    OK(store_answers_expire(st, 1000 + day - 1, &err));
    OK(store_answer_begin(st, TENANT_DEFAULT, "key", "print", 1000 + day - 1, location, sizeof location, &body, &err));
    ck_assert_ptr_nonnull(body);
    mem_free(body);
    OK(store_answer_begin(st, TENANT_DEFAULT, "key", "other", 1000 + day, location, sizeof location, &body, &err)); /* too old, though it is still there */
    ck_assert_ptr_null(body);
    id_new(d.id, "dst");
    OK(store_dataset_add(st, &d, &err)); /* takes its place */
    store_answer_end(st, TENANT_DEFAULT, "key");
    OK(store_answers_expire(st, 1000 + day, &err));
    OK(store_answer_begin(st, TENANT_DEFAULT, "key", "other", 1001, location, sizeof location, &body, &err));
    ck_assert_ptr_null(body);
    store_answer_end(st, TENANT_DEFAULT, "key");
    ck_assert_int_eq(check_invariants(), 0);
}
END_TEST

static void post(struct job_row *j, int64_t finished) /* 0: not */
{
    enum job_state now;

    *j = make_job(0);
    if (finished)
        OK(store_job_cancel(st, TENANT_DEFAULT, j->id, finished, &now, &err));
}

START_TEST(retention_works)
{
    struct job_row old, young, queued;
    int64_t n;

    post(&old, 200);
    post(&young, 1000);
    post(&queued, 0);
    OK(store_uploads_expire(st, INT64_MAX, &n, &err));
    ck_assert_int_eq(n, 0); /* jobs name them all */
    OK(store_jobs_expire(st, 200, &n, &err));
    ck_assert_int_eq(n, 0);
    OK(store_jobs_expire(st, 1000, &n, &err));
    ck_assert_int_eq(n, 1);
    ck_assert_int_eq(store_job_get(st, TENANT_DEFAULT, old.id, &old, &err), ERR_NOT_FOUND);
    OK(store_uploads_expire(st, INT64_MAX, &n, &err));
    ck_assert_int_eq(n, 2); /* the old job's model and data set */
    OK(store_jobs_expire(st, INT64_MAX, &n, &err));
    ck_assert_int_eq(n, 1); /* the queued one stays */
    check_invariants();
    for (int i = 0; i < 250; i++) /* more than a batch */
        make_model(false);
    OK(store_uploads_expire(st, INT64_MAX, &n, &err));
    ck_assert_int_eq(n, 252);
    check_invariants();
}
END_TEST

/* Whatever fails on the way, no half copy stays; then it works, and the copy opens as a store. */
START_TEST(backups_work)
{
    struct store_copied copied = { 0 };
    struct model_row m = make_model(true), got = { 0 };
    char copy[100], what[200];
    struct store *other = NULL;
    enum err_code rc = ERR_IO;

    snprintf(copy, sizeof copy, "%s/copy", home);
    ck_assert_int_eq(store_backup("/nowhere", copy, &copied, &err), ERR_NOT_FOUND);
    ck_assert_int_eq(store_backup(home, home, &copied, &err), ERR_CONFLICT);
    for (long k = 1; rc != ERR_OK; k++) {
        ck_assert_int_ne(access(copy, F_OK), 0);
        db_fail_in = k;
        rc = store_backup(home, copy, &copied, &err);
        ck_assert(rc == ERR_OK || db_fail_in == 0);
    }
    db_fail_in = 0;
    ck_assert_uint_eq(copied.blobs, 2);
    ck_assert_int_eq(store_backup(home, copy, &copied, &err), ERR_CONFLICT);
    OK(store_check(copy, what, sizeof what, &err));
    ck_assert_ptr_nonnull(strstr(what, "in use by nobody"));
    OK(store_open(&other, copy, &err));
    OK(store_model_get(other, TENANT_DEFAULT, m.id, &got, &err));
    ck_assert_str_eq(got.weights.id, m.weights.id);
    model_row_clear(&got);
    OK(store_check(copy, what, sizeof what, &err));
    ck_assert_ptr_nonnull(strstr(what, "in use by a daemon"));
    store_close(other);
}
END_TEST

START_TEST(the_log_is_emptied)
{
    struct store_figures f;

    make_model(true);
    store_figures(st, &f);
    ck_assert_uint_gt(f.wal_bytes, 0);
    ck_assert_uint_gt(f.writes, 0);
    ck_assert_uint_gt(f.disk_free, 0);
    OK(store_tidy(st, &err));
    store_figures(st, &f);
    ck_assert_uint_eq(f.wal_bytes, 0);
}
END_TEST

START_TEST(pages_work)
{
    char models[5][ID_LEN], sets[5][ID_LEN], jobs[5][ID_LEN], queued[5][ID_LEN];
    enum job_state now;
    struct seen after_gap = { .n = 0 };
    struct page p = { .tenant = TENANT_DEFAULT, .limit = 9 };
    bool more;

    check_pages(store_model_list, models, 0, NULL);
    for (int i = 0; i < 5; i++) {
        struct job_row j = make_job(0);

        memcpy(models[i], j.model, ID_LEN);
        memcpy(sets[i], j.dataset, ID_LEN);
        memcpy(jobs[i], j.id, ID_LEN);
        memcpy(queued[i], j.id, ID_LEN);
    }
    check_pages(store_model_list, models, 5, NULL);
    check_pages(store_dataset_list, sets, 5, NULL);
    check_pages(store_job_list, jobs, 5, NULL);
    OK(store_job_cancel(st, TENANT_DEFAULT, jobs[1], 9, &now, &err));
    memmove(queued[1], queued[2], 3 * sizeof queued[0]);
    check_pages(store_job_list, queued, 4, "queued");
    check_pages(store_job_list, jobs + 1, 1, "cancelled");
    OK(store_job_delete(st, TENANT_DEFAULT, jobs[1], &err)); /* a cursor whose row has gone */
    memcpy(p.after, jobs[1], ID_LEN);
    OK(store_job_list(st, &p, see, &after_gap, &more, &err));
    ck_assert_int_eq(after_gap.n, 1);
    ck_assert_str_eq(after_gap.id[0], jobs[0]);
}
END_TEST

/* ---- jobs ---- */

START_TEST(jobs_work)
{
    struct job_row j = make_job(3), got = { 0 };
    int64_t count[JOB_STATES];
    enum job_state now;

    OK(store_job_get(st, TENANT_DEFAULT, j.id, &got, &err));
    ck_assert_int_eq(got.state, JOB_QUEUED);
    ck_assert_int_eq(got.priority, 3);
    ck_assert_str_eq(got.conf, "{\"a\":1}");
    ck_assert_str_eq(got.weights, j.weights);
    ck_assert(!got.progress && !got.baseline && !got.result && !got.error && !got.started_ms && !got.finished_ms);
    job_row_clear(&got);
    ck_assert_int_eq(store_job_delete(st, TENANT_DEFAULT, j.id, &err), ERR_CONFLICT);
    ck_assert_int_eq(store_model_delete(st, TENANT_DEFAULT, j.model, &err), ERR_CONFLICT);
    ck_assert_int_eq(store_dataset_delete(st, TENANT_DEFAULT, j.dataset, &err), ERR_CONFLICT);
    ck_assert_int_eq(store_dataset_set_part(st, TENANT_DEFAULT, j.dataset, 0, NULL, NULL, &err), ERR_CONFLICT);
    OK(store_job_counts(st, count, &err));
    ck_assert(count[JOB_QUEUED] == 1 && count[JOB_CANCELLED] == 0);
    OK(store_job_cancel(st, TENANT_DEFAULT, j.id, 50, &now, &err));
    ck_assert_int_eq(now, JOB_CANCELLED);
    ck_assert_int_eq(store_job_cancel(st, TENANT_DEFAULT, j.id, 60, &now, &err), ERR_CONFLICT);
    ck_assert_int_eq(store_job_cancel(st, TENANT_DEFAULT, "job_none", 60, &now, &err), ERR_NOT_FOUND);
    OK(store_job_get(st, TENANT_DEFAULT, j.id, &got, &err));
    ck_assert(got.state == JOB_CANCELLED && got.finished_ms == 50);
    job_row_clear(&got);
    OK(store_dataset_delete(st, TENANT_DEFAULT, j.dataset, &err));
    OK(store_model_delete(st, TENANT_DEFAULT, j.model, &err));
    ck_assert_int_eq(check_invariants(), 2); /* the job keeps the model's files */
    ck_assert(blob_exists(j.architecture) && blob_exists(j.weights));
    OK(store_job_delete(st, TENANT_DEFAULT, j.id, &err));
    ck_assert_int_eq(store_job_delete(st, TENANT_DEFAULT, j.id, &err), ERR_NOT_FOUND);
    ck_assert_int_eq(files_in_blobs(), 0);
    ck_assert_int_eq(check_invariants(), 0);
}
END_TEST

START_TEST(job_needs_its_inputs)
{
    struct model_row m = make_model(false);
    struct dataset_row d = make_dataset();
    struct job_row j = job_for(&m, &d, 0);

    OK(store_dataset_delete(st, TENANT_DEFAULT, d.id, &err));
    ck_assert_int_eq(store_job_add(st, &j, &err), ERR_INVALID);
    ck_assert_str_eq(err.at, "/dataset");
    OK(store_model_delete(st, TENANT_DEFAULT, m.id, &err));
    ck_assert_int_eq(store_job_add(st, &j, &err), ERR_INVALID);
    ck_assert_str_eq(err.at, "/model");
    ck_assert_int_eq(check_invariants(), 0);
}
END_TEST

/* ---- the directory ---- */

START_TEST(sweep_leaves_what_rows_name)
{
    struct model_row m = make_model(true);
    struct blob lost = make_blob();
    char path[4096];
    struct store *second = NULL;

    store_temp_path(st, path, sizeof path);
    OK(file_write(path, "x", 1, &err));
    ck_assert_int_eq(store_open(&second, home, &err), ERR_CONFLICT);
    store_reopen();
    ck_assert(blob_exists(m.architecture.id) && blob_exists(m.weights.id) && !blob_exists(lost.id));
    ck_assert_int_ne(access(path, F_OK), 0);
    ck_assert_int_eq(check_invariants(), 2);
    ck_assert_int_eq(files_in_blobs(), 2);
}
END_TEST

START_TEST(readiness_work)
{

    OK(store_ready(st, &err));
    OK(store_room(st, 1, &err));
    ck_assert_int_eq(store_room(st, UINT64_MAX, &err), ERR_NO_SPACE);
    store_set_disk_floor(st, UINT64_MAX / 2);
    ck_assert_int_eq(store_ready(st, &err), ERR_NO_SPACE);
    store_set_disk_floor(st, 0);
    db_fail_in = 2;
    ck_assert_int_eq(store_ready(st, &err), ERR_NO_SPACE);
    OK(store_ready(st, &err));
    ck_assert_str_eq(store_fs_refused(0x6969), "NFS");
    ck_assert_ptr_nonnull(store_fs_refused(0xff534d42));
    ck_assert_ptr_nonnull(store_fs_refused(0x65735546));
    ck_assert_ptr_null(store_fs_refused(0xef53));
}
END_TEST

START_TEST(open_refuses)
{
    struct store *s = NULL;
    char path[128], longer[4000];

    snprintf(path, sizeof path, "%s/blobs/a/b", home);
    OK(store_open(&s, path, &err)); /* parents are made */
    store_close(s);
    snprintf(path, sizeof path, "%s/lock/x", home);
    ck_assert_int_eq(store_open(&s, path, &err), ERR_IO);
    ck_assert_ptr_nonnull(strstr(err.msg, "/lock"));
    memset(longer, 'a', sizeof longer);
    longer[sizeof longer - 1] = '\0';
    ck_assert_int_eq(store_open(&s, longer, &err), ERR_INVALID);
    ck_assert_int_eq(store_open(&s, "", &err), ERR_INVALID);
}
END_TEST

static void cases(Suite *s)
{
    TCase *tc = suite_case(s, "store");

    tcase_add_checked_fixture(tc, store_setup, store_teardown);
    tcase_add_test(tc, ids_work);
    tcase_add_test(tc, transitions_work);
    tcase_add_test(tc, models_work);
    tcase_add_test(tc, datasets_work);
    tcase_add_test(tc, answers_work);
    tcase_add_test(tc, retention_works);
    tcase_add_test(tc, backups_work);
    tcase_add_test(tc, the_log_is_emptied);
    tcase_add_test(tc, pages_work);
    tcase_add_test(tc, jobs_work);
    tcase_add_test(tc, job_needs_its_inputs);
    tcase_add_test(tc, sweep_leaves_what_rows_name);
    tcase_add_test(tc, readiness_work);
    tcase_add_test(tc, open_refuses);
}
SUITE_MAIN("store", cases)
