/* core/data_csv_scan.c: cuts CSV into cells and reads their numbers. One cell is in memory at a time. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/data_impl.h"
#include "core/mem.h"
#include "core/utf8.h"

enum { END = -1, BUF_LEN = 65536 };

struct csv {
    struct input *in;
    char delimiter;
    int column;    /* of the cell being read; 0: a row begins */
    uint64_t line;
    enum err_code rc; /* of the input; next_byte then gives END */
    struct err why;
    size_t n;
    char cell[CSV_CELL_MAX + 1];
    size_t pos, len;
    unsigned char buf[BUF_LEN];
};

static int refill(struct csv *c)
{
    if (c->rc == ERR_OK)
        c->rc = input_read(c->in, c->buf, BUF_LEN, &c->len, &c->why);
    c->pos = 0;
    if (c->rc != ERR_OK)
        c->len = 0;
    return c->len > 0 ? c->buf[c->pos++] : END;
}

static inline int next_byte(struct csv *c)
{
    return c->pos < c->len ? c->buf[c->pos++] : refill(c);
}

static enum err_code failed(const struct csv *c, struct err *e)
{
    if (e)
        *e = c->why;
    return c->rc;
}

enum err_code csv_open(struct csv **out, const char *path, char delimiter, uint64_t max_bytes, struct err *e)
{
    struct csv *c = mem_alloc(sizeof *c);
    enum err_code rc;

    if (!c)
        return err_set(e, ERR_NOMEM, "out of memory");
    memset(c, 0, offsetof(struct csv, cell));
    c->pos = c->len = 0;
    c->delimiter = delimiter;
    c->line = 1;
    rc = input_open(&c->in, path, max_bytes, e);
    if (rc != ERR_OK) {
        mem_free(c);
        return rc;
    }
    if (refill(c) != END)
        c->pos = 0;
    if (c->rc != ERR_OK)
        rc = failed(c, e);
    else if (c->len >= 2 && (memcmp(c->buf, "\xff\xfe", 2) == 0 || memcmp(c->buf, "\xfe\xff", 2) == 0))
        rc = err_set(e, ERR_UNSUPPORTED, "the CSV file is UTF-16: it must be UTF-8");
    else if (c->len >= 3 && memcmp(c->buf, "\xef\xbb\xbf", 3) == 0)
        c->pos = 3;
    if (rc != ERR_OK)
        csv_close(c);
    else
        *out = c;
    return rc;
}

void csv_close(struct csv *c)
{
    if (!c)
        return;
    input_close(c->in);
    mem_free(c);
}

static enum err_code bad(const struct csv *c, const char *what, struct err *e)
{
    return c->rc != ERR_OK ? failed(c, e)
                           : err_set(e, ERR_SYNTAX, "line %llu, column %d: %s", (unsigned long long)c->line, c->column + 1, what);
}

static enum err_code append(struct csv *c, int b, struct err *e)
{
    if (b == '\0')
        return bad(c, "a zero byte: not a CSV file, and of no other format that is told by its first bytes", e);
    if (c->n == CSV_CELL_MAX)
        return bad(c, "a cell is longer than 4096 bytes: is a quote or the delimiter missing?", e);
    c->cell[c->n++] = (char)b;
    return ERR_OK;
}

/* After the opening quote, to the byte behind the closing one. */
static enum err_code quoted(struct csv *c, int *end, struct err *e)
{
    uint64_t opened = c->line;
    enum err_code rc = ERR_OK;

    while (rc == ERR_OK) {
        int b = next_byte(c);

        if (b == END) {
            c->line = opened;
            return bad(c, "the quote that begins here is not closed", e);
        }
        if (b == '"') {
            *end = next_byte(c);
            if (*end != '"')
                return *end == (unsigned char)c->delimiter || *end == '\n' || *end == '\r' || *end == END
                           ? ERR_OK
                           : bad(c, "text behind the closing quote", e);
        }
        c->line += b == '\n';
        rc = append(c, b, e);
    }
    return rc;
}

static enum err_code bare(struct csv *c, int b, int *end, struct err *e)
{
    enum err_code rc = ERR_OK;

    for (; rc == ERR_OK && b != (unsigned char)c->delimiter && b != '\n' && b != '\r' && b != END; b = next_byte(c))
        rc = b == '"' ? bad(c, "a quote inside a cell that does not begin with one", e) : append(c, b, e);
    *end = b;
    while (c->n > 0 && (c->cell[c->n - 1] == ' ' || c->cell[c->n - 1] == '\t'))
        c->n--;
    return rc;
}

/* Takes the LF that must follow a CR. */
static enum err_code line_feed(struct csv *c, struct err *e)
{
    return next_byte(c) == '\n' ? ERR_OK : bad(c, "a carriage return without a line feed", e);
}

static enum err_code skip_empty_lines(struct csv *c, int *b, struct err *e)
{
    enum err_code rc = ERR_OK;

    while (rc == ERR_OK && (*b == '\n' || *b == '\r')) {
        if (*b == '\r')
            rc = line_feed(c, e);
        c->line++;
        *b = next_byte(c);
    }
    return rc;
}

enum err_code csv_next(struct csv *c, struct csv_cell *cell, struct err *e)
{
    enum err_code rc = ERR_OK;
    int b = next_byte(c), end = END;

    if (c->column == 0)
        rc = skip_empty_lines(c, &b, e);
    *cell = (struct csv_cell){ .line = c->line, .column = c->column };
    if (rc != ERR_OK || (b == END && (c->column == 0 || c->rc != ERR_OK)))
        return rc != ERR_OK ? rc : failed(c, e);
    c->n = 0;
    while ((b == ' ' || b == '\t') && b != (unsigned char)c->delimiter)
        b = next_byte(c);
    rc = b == '"' ? quoted(c, &end, e) : bare(c, b, &end, e);
    if (rc == ERR_OK && end == '\r')
        rc = line_feed(c, e);
    if (rc != ERR_OK || c->rc != ERR_OK)
        return rc != ERR_OK ? rc : failed(c, e);
    cell->last = end != (unsigned char)c->delimiter;
    c->column = cell->last ? 0 : c->column + 1;
    c->line += cell->last;
    c->cell[c->n] = '\0';
    cell->text = c->cell;
    cell->len = c->n;
    return ERR_OK;
}

/* ---- text ---- */

const char *csv_quote(char buf[CSV_QUOTE_LEN], const char *text)
{
    bool utf8 = utf8_valid(text);
    size_t n = strlen(text), cut = n;

    if (n >= CSV_QUOTE_LEN) {
        for (cut = CSV_QUOTE_LEN - 4; utf8 && cut > 0 && ((unsigned char)text[cut] & 0xc0) == 0x80; cut--) /* not within a character */
            continue;
    }
    for (size_t i = 0; i < cut; i++)
        buf[i] = (unsigned char)text[i] < ' ' || text[i] == 0x7f || (!utf8 && (unsigned char)text[i] >= 0x80) ? '?' : text[i];
    snprintf(buf + cut, CSV_QUOTE_LEN - cut, "%s", cut < n ? "..." : "");
    return buf;
}

/* ---- numbers ---- */

const char *const csv_number_text[CSV_NUMBERS] = { "is a number", "is empty, it must be a number", "is not a number", "is not a finite number",
                                                   "is too large for a float32" };

static bool is_non_finite(const char *s)
{
    static const char *const words[] = { "nan", "inf", "infinity" };

    s += *s == '-' || *s == '+';
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcasecmp(s, words[i]) == 0)
            return true;
    return false;
}

/* Digits at s into *m (while it stays exact, else *exact is false); returns what follows them. */
static const char *digits(const char *s, uint64_t *m, bool *exact)
{
    for (; isdigit((unsigned char)*s); s++) {
        *m = *m * 10 + (uint64_t)(*s - '0');
        if (*m > (uint64_t)1 << 53) {
            *exact = false;
            *m = 0;
        }
    }
    return s;
}

/* Where mantissa and power of ten are both exact doubles one multiplication or division is rounded correctly; the rest is strtod's. */
enum csv_number csv_number(const char *text, double *out)
{
    static const double ten[] = { 1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                  1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };
    const char *s = text + (*text == '-' || *text == '+'), *whole = s, *point;
    uint64_t m = 0, power = 0;
    bool exact = true;
    long scale = 0;

    if (!*text)
        return CSV_EMPTY;
    s = point = digits(s, &m, &exact);
    if (*s == '.') {
        s = digits(s + 1, &m, &exact);
        scale = (long)(point + 1 - s);
    }
    if (s - whole - (*point == '.') < 1)
        return is_non_finite(text) ? CSV_NOT_FINITE : CSV_TEXT;
    if (*s == 'e' || *s == 'E') {
        const char *first = s + 1 + (s[1] == '-' || s[1] == '+');

        exact = exact && strlen(first) <= 3;
        point = digits(first, &power, &exact);
        if (point == first)
            return CSV_TEXT;
        scale += exact ? (s[1] == '-' ? -(long)power : (long)power) : 0;
        s = point;
    }
    if (*s)
        return CSV_TEXT;
    if (exact && scale >= -22 && scale <= 22)
        *out = (*text == '-' ? -1 : 1) * (scale < 0 ? (double)m / ten[-scale] : (double)m * ten[scale]);
    else
        *out = strtod(text, NULL);
    return isfinite((float)*out) ? CSV_NUMBER : CSV_RANGE;
}
