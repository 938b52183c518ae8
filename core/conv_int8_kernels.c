/* core/conv_int8_kernels.c: the integer vector code of convolutions (see conv_int8.h). It stands once, in conv_int8_level.h, and is compiled for each
 * level that a processor may have. */
#include "core/conv_int8.h"

#include "core/int8_kernels.h"
#include "core/simd.h"

#define LEVEL_CODE "core/conv_int8_level.h"
#include "core/int8_levels.h"

static const struct conv_words_level levels[] = {
#if defined(__x86_64__)
    { blocks_vnni, line_vnni },
    { blocks_avx2, line_avx2 },
#endif
    { blocks_portable, line_portable },
};

const struct conv_words_level *conv_words_level(void) { return &levels[int8_level()]; }
