/* tests/core/op_fixture.h: one op with numbers of its own, run forward and backward by teams of any size. */
#ifndef TESTS_CORE_OP_FIXTURE_H
#define TESTS_CORE_OP_FIXTURE_H

#include <stdio.h>
#include <string.h>

#include "core/gemm.h"
#include "core/mem.h"
#include "tests/engine_net.h"
#include "tests/suite.h"

enum { MAX_IN = 3, THREADS = 3 };

/* One op with numbers of its own; run with 1 to 4 threads. */
struct rig {
    const struct op *op;
    struct plug_value conf;
    int n, n_in;
    struct shape in[MAX_IN];
    struct op_plan plan;
    float *x[MAX_IN], *dx[MAX_IN], *y, *dy, *state, *w[OP_MAX_WEIGHTS], *dw[OP_MAX_WEIGHTS];
    struct op_call call;
};

static inline size_t len_x(const struct rig *r, int i) { return shape_len(&r->in[i]) * (size_t)r->n; }
static inline size_t len_y(const struct rig *r) { return shape_len(&r->plan.out) * (size_t)r->n; }

static inline enum err_code shape_of(struct rig *r, const char *op, const char *options, const struct shape *in, int n_in, struct err *e)
{
    const struct shape *at[MAX_IN];
    json_t *json = json_loads(options, 0, NULL);

    *r = (struct rig){ .op = op_find(op), .n_in = n_in };
    r->conf.plug = &r->op->plug;
    ck_assert_int_eq(params_parse(r->conf.conf, r->op->plug.conf_size, r->op->plug.params, json, NULL), ERR_OK);
    json_decref(json);
    for (int i = 0; i < n_in; i++) {
        r->in[i] = in[i];
        at[i] = &r->in[i];
    }
    return r->op->shape(r->conf.conf, at, n_in, &r->plan, e);
}

static inline struct op_call *rig_open(struct rig *r, const char *op, const char *options, const struct shape *in, int n_in, int n)
{
    struct err e = { 0 };
    enum err_code rc = shape_of(r, op, options, in, n_in, &e);

    ck_assert_msg(rc == ERR_OK, "%s %s: %s", op, options, e.msg);
    r->n = n;
    r->call = (struct op_call){ .conf = r->conf.conf, .n = n, .n_in = n_in, .out_shape = &r->plan.out, .training = true };
    for (int i = 0; i < n_in; i++) {
        r->x[i] = mem_vector(len_x(r, i));
        r->dx[i] = mem_vector(len_x(r, i));
        fill_normal(r->x[i], len_x(r, i), 1 + (uint32_t)i);
        fill_normal(r->dx[i], len_x(r, i), 99); /* to be overwritten */
        r->call.in_shape[i] = &r->in[i], r->call.x[i] = r->x[i], r->call.dx[i] = r->dx[i];
    }
    for (int i = 0; i < r->plan.n_weights; i++) {
        r->w[i] = mem_vector(shape_len(&r->plan.weight[i].shape));
        r->dw[i] = mem_vector(shape_len(&r->plan.weight[i].shape));
        fill_normal(r->w[i], shape_len(&r->plan.weight[i].shape), 20 + (uint32_t)i);
        r->call.w[i] = r->w[i];
        r->call.dw[i] = r->plan.weight[i].trainable ? r->dw[i] : NULL;
    }
    r->y = mem_vector(len_y(r));
    r->dy = mem_vector(len_y(r));
    r->state = mem_vector(r->plan.state_len + (size_t)n * r->plan.state_len_per_sample);
    fill_normal(r->dy, len_y(r), 10);
    r->call.y = r->y, r->call.dy = r->dy, r->call.state = r->state;
    return &r->call;
}

static inline void rig_close(struct rig *r)
{
    for (int i = 0; i < MAX_IN; i++)
        mem_free(r->x[i]), mem_free(r->dx[i]);
    for (int i = 0; i < OP_MAX_WEIGHTS; i++)
        mem_free(r->w[i]), mem_free(r->dw[i]);
    mem_free(r->y), mem_free(r->dy), mem_free(r->state);
}

static struct team *teams[THREADS];
static int n_teams;
static inline void teams_open(void)
{
    n_teams = THREADS;
    for (int k = 0; k < THREADS; k++)
        ck_assert_int_eq(team_new(&teams[k], 2 + k, NULL), ERR_OK);
}
static inline void teams_close(void)
{
    while (n_teams > 0)
        team_free(teams[--n_teams]);
}

/* Forward and backward, alone and with each team that is open: the same bytes. Moving statistics are put back before each run. */
static inline void rig_run(struct rig *r)
{
    float *y = mem_vector(len_y(r)), *dx[MAX_IN], moved[2][64];
    int n_w = r->plan.n_weights, first = n_w > 0 && !r->plan.weight[n_w - 1].trainable ? n_w - 2 : n_w;

    for (int i = first; i < n_w; i++)
        memcpy(moved[i - first], r->w[i], shape_len(&r->plan.weight[i].shape) * sizeof(float));
    for (int k = 0; k <= n_teams; k++) {
        r->call.team = k > 0 ? teams[k - 1] : NULL;
        for (int i = first; i < n_w; i++)
            memcpy(r->w[i], moved[i - first], shape_len(&r->plan.weight[i].shape) * sizeof(float));
        r->op->forward(&r->call);
        r->op->backward(&r->call);
        if (k == 0)
            memcpy(y, r->y, len_y(r) * sizeof *y);
        ck_assert_mem_eq(y, r->y, len_y(r) * sizeof *y);
        for (int i = 0; i < (r->op->same_dx ? 1 : r->n_in); i++) {
            if (k == 0) {
                dx[i] = mem_vector(len_x(r, i));
                memcpy(dx[i], r->dx[i], len_x(r, i) * sizeof(float));
            }
            ck_assert_mem_eq(dx[i], r->dx[i], len_x(r, i) * sizeof(float));
            if (k == n_teams)
                mem_free(dx[i]);
        }
    }
    mem_free(y);
}

static inline void near(const float *x, const double *want, size_t n, double bound, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)x[i] - want[i]) <= bound * (1 + fabs(want[i]))))
            ck_abort_msg("%s[%zu] is %.9g, must be %.9g", what, i, (double)x[i], want[i]);
}

#endif
