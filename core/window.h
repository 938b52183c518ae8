/* core/window.h: where windows lie along one axis, as Keras places them: those of convolutions and those of pooling. */
#ifndef CORE_WINDOW_H
#define CORE_WINDOW_H

#include <stdint.h>

enum window_padding {
    PADDING_VALID, /* windows lie inside */
    PADDING_SAME,  /* zeros at both ends, the odd one behind, so that every stride-th place has a window */
    PADDING_CAUSAL /* zeros ahead: a window ends where its output is */
};
/* n windows, the first one `before` places ahead of the input; n 0: it fits nowhere. */
struct windows { int64_t n, before; };

/* span: places from a window's first to its last. */
static inline struct windows windows_of(int64_t in, int64_t span, int64_t stride, enum window_padding padding)
{
    struct windows w = { (in + stride - 1) / stride, 0 };
    const int64_t more = (w.n - 1) * stride + span - in;

    if (padding == PADDING_VALID)
        w.n = span > in ? 0 : (in - span) / stride + 1;
    else if (padding == PADDING_CAUSAL)
        w.before = span - 1;
    else if (more > 0)
        w.before = more / 2;
    return w;
}

#endif
