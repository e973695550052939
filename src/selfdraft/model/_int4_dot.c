/* One row of bfloat16 features times weights in 4 bits, for CPUs with AVX512-VNNI.

   torch's kernel widens every code to float32 and is bound by that; here the features are rounded
   to 8 bits in groups, so that one instruction multiplies 64 codes, and the product takes as long
   as its weights take to read. Nothing but drafts are computed with it: what it rounds away can
   never reach the text.

   Weights of 16 outputs and 32 inputs are one block of 320 bytes (`int4_dot.py` lays them out):
   256 of codes, four times 64 bytes whose low halves are inputs 8 i to 8 i + 3 of the 16 outputs
   and whose high halves are the next four; then 16 scales and 16 zeros in bfloat16. */

#include <stdint.h>

/* Of the layout and the arguments: `int4_dot.py` compares it with its own. */
int int4_dot_version(void) { return 2; }

int int4_dot_is_supported(void) {
    return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}

#pragma GCC target("avx512f,avx512bw,avx512vl,avx512vnni")
#include "_bfloat16.h"
#include "_linear_parts.h"

enum { OUTPUTS = 16, GROUP = 32, CODE_BYTES = OUTPUTS * GROUP / 2, BLOCK = CODE_BYTES + 64 };
/* Of what is read: nearer and farther were slower. Into the second cache: with the first, a call
   that does not follow the one before it at once took a third more time. */
enum { AHEAD = 8 * BLOCK };

/* A group of features: 8-bit codes, what one step of them is worth, and their sum. */
typedef struct {
    int8_t codes[GROUP];
    int32_t sum_of_codes;
    float scale, sum;
} Features;

static void round_features(const uint16_t *row, int64_t num_groups, Features *features) {
    for (int64_t g = 0; g < num_groups; g++) {
        __m512 low = widen(row + GROUP * g), high = widen(row + GROUP * g + 16);
        float largest =
            _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
        __m512 steps = _mm512_set1_ps(largest > 0 ? 127 / largest : 0);
        __m512i low_codes = _mm512_cvtps_epi32(_mm512_mul_ps(low, steps));
        __m512i high_codes = _mm512_cvtps_epi32(_mm512_mul_ps(high, steps));
        Features *group = features + g;
        _mm_storeu_si128((void *)group->codes, _mm512_cvtsepi32_epi8(low_codes));
        _mm_storeu_si128((void *)(group->codes + 16), _mm512_cvtsepi32_epi8(high_codes));
        group->sum_of_codes = _mm512_reduce_add_epi32(_mm512_add_epi32(low_codes, high_codes));
        group->scale = largest / 127;
        group->sum = _mm512_reduce_add_ps(_mm512_add_ps(low, high));
    }
}

/* weight = (code - 8) * scale + zero, so a group adds
   scale * feature_scale * (sum of code * feature_code - 8 * sum of feature_code) + zero * sum. */
static __m512 dot(const uint8_t *block, const Features *features, int64_t num_groups) {
    const __m512i low_half = _mm512_set1_epi8(15);
    __m512 product = _mm512_setzero_ps(), offset = _mm512_setzero_ps();
    for (int64_t g = 0; g < num_groups; g++, block += BLOCK, features++) {
        for (int line = 0; line < BLOCK; line += 64)
            _mm_prefetch((const char *)block + AHEAD + line, _MM_HINT_T1);
        const int32_t *fours = (const int32_t *)features->codes;
        __m512i even = _mm512_set1_epi32(-8 * features->sum_of_codes);
        __m512i odd = _mm512_setzero_si512();
        for (int i = 0; i < 4; i++) {
            __m512i codes = _mm512_loadu_si512(block + 64 * i);
            __m512i low = _mm512_and_si512(codes, low_half);
            __m512i high = _mm512_and_si512(_mm512_srli_epi16(codes, 4), low_half);
            even = _mm512_dpbusd_epi32(even, low, _mm512_set1_epi32(fours[2 * i]));
            odd = _mm512_dpbusd_epi32(odd, high, _mm512_set1_epi32(fours[2 * i + 1]));
        }
        __m512 sums = _mm512_cvtepi32_ps(_mm512_add_epi32(even, odd));
        __m512 scales = _mm512_mul_ps(widen(block + CODE_BYTES), _mm512_set1_ps(features->scale));
        product = _mm512_fmadd_ps(sums, scales, product);
        __m512 zeros = widen(block + CODE_BYTES + 32);
        offset = _mm512_fmadd_ps(zeros, _mm512_set1_ps(features->sum), offset);
    }
    return _mm512_add_ps(product, offset);
}

/* 16 products, or those of them that there are. */
static void finish(__m512 values, const Part *part, int64_t first, uint16_t *products) {
    int64_t count = part->num_outputs - first;
    __mmask16 there = count < OUTPUTS ? (1 << count) - 1 : 0xffff;
    if (part->bias) {
        __m256i bias = _mm256_maskz_loadu_epi16(there, part->bias + first);
        values = _mm512_add_ps(values, widen(&bias));
    }
    _mm256_mask_storeu_epi16(products + first, there, narrow(values));
}

/* rows: [num_rows, num_inputs]; features: room for one row. */
void int4_dot(const uint16_t *rows, const Part *parts, int64_t num_parts, int64_t num_rows,
              int64_t num_inputs, void *room, int num_threads) {
    const int64_t num_groups = num_inputs / GROUP;
    const int64_t num_tiles = count_all_blocks(parts, num_parts, OUTPUTS);
    Features *features = room;
    for (int64_t row = 0; row < num_rows; row++) {
        round_features(rows + row * num_inputs, num_groups, features);
#pragma omp parallel for schedule(static) num_threads(num_threads)
        for (int64_t i = 0; i < num_tiles; i++) {
            int64_t tile = i;
            const Part *part = find_part(parts, OUTPUTS, &tile);
            const uint8_t *weights = (const uint8_t *)part->weights + tile * num_groups * BLOCK;
            finish(dot(weights, features, num_groups), part, tile * OUTPUTS,
                   part->products + row * part->num_outputs);
        }
    }
}
