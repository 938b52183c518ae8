/* core/data_writer.c: samples with their labels, made one after the other, to two compact files: a chunk of them at a time. */
#include "core/data_impl.h"
#include "core/mem.h"

enum err_code data_writer_open(struct data_writer *w, const struct data_upload *u, const struct data_head head[2], struct err *e)
{
    enum err_code rc = ERR_OK;

    *w = (struct data_writer){ .u = u, .total = head[0].n, .chunk = data_head_chunk(&head[0]) };
    for (int i = 0; i < 2 && rc == ERR_OK; i++) {
        w->size[i] = data_head_width(&head[i]) * data_dtype_size[head[i].dtype];
        w->x[i] = mem_alloc(w->chunk * w->size[i]);
        rc = w->x[i] ? data_out_new(&w->out[i], u->to[i], &head[i], u->max_bytes, e) : err_set(e, ERR_NOMEM, "out of memory");
    }
    return rc;
}

void *data_writer_at(const struct data_writer *w, int part)
{
    return w->x[part] + w->n * w->size[part];
}

enum err_code data_writer_next(struct data_writer *w, struct err *e)
{
    enum err_code rc = ERR_OK;

    w->done++;
    if (++w->n < w->chunk && w->done < w->total)
        return ERR_OK;
    for (int i = 0; i < 2 && rc == ERR_OK; i++)
        rc = data_out_put(w->out[i], w->x[i], w->n, e);
    w->n = 0;
    return rc;
}

enum err_code data_writer_publish(struct data_writer *w, json_t *const notes[2], struct err *e)
{
    enum err_code rc = notes[0] && notes[1] ? ERR_OK : err_set(e, ERR_NOMEM, "out of memory");

    for (int i = 0; i < 2 && rc == ERR_OK; i++)
        rc = data_out_finish(w->out[i], notes[i], e);
    return rc == ERR_OK ? data_out_publish_both(w->out, w->u->to, w->u->info, e) : rc;
}

void data_writer_free(struct data_writer *w)
{
    for (int i = 0; i < 2; i++) {
        data_out_free(w->out[i]);
        mem_free(w->x[i]);
    }
}
