/* Attention of the new rows of a token tree, for CPUs with AVX512.

   Every row sees a stretch of the cached rows, and behind it its own path through the new rows.
   What is computed for a row, and in which order, depends on that row alone: so its bits are the
   same whether it comes alone or with others (contract L2), by construction. Sums are in float32,
   and so are the weights that multiply the values.

   Rows behind the last path are padding: they get what the last row gets.

   A unit of work is one row and up to four query heads that share a key/value head. */

#include <stdint.h>

/* Of the arguments: `attention_kernel.py` compares it with its own. */
int path_attention_version(void) { return 1; }

int path_attention_is_supported(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl")
#include "bfloat16.h"
#include <math.h>
#include <omp.h>
#include <string.h>

enum { LANES = 16, KEYS = 4, QUERIES = 4, CHUNK = 4 };

/* `paths` has a line for each row: its first key, the length of its path, and the path: new rows
   by their offsets from the prefix. Strides are in elements; the last dimension has stride 1. */
typedef struct {
    const uint16_t *query, *key, *value;
    uint16_t *output; /* [rows, heads, value_dim] */
    const int32_t *paths;
    float *room; /* for each thread: QUERIES * (key_dim + keys rounded up to LANES) */
    int64_t query_head, query_row, key_head, key_row, value_head, value_row;
    int64_t num_rows, num_paths, num_kv_heads, group, key_dim, value_dim, prefix;
    int64_t path_columns, room_columns;
    float scale;
    int32_t num_threads;
} Arguments;

/* The keys that one row sees: cached ones from `first` on, then its path. */
typedef struct {
    const int32_t *path;
    int64_t first, num_cached, prefix, count;
} Visible;

static inline int64_t row_of(const Visible *seen, int64_t i) {
    return i < seen->num_cached ? seen->first + i
                                : seen->prefix + seen->path[i - seen->num_cached];
}

/* e^x for x <= 0: 2^n times a Taylor polynomial of what is left, at most ln(2) / 2. */
static inline __m512 exponential(__m512 x) {
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
    __m512 rest = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693145752f), x);
    rest = _mm512_fnmadd_ps(n, _mm512_set1_ps(1.42860682e-6f), rest);
    static const float factors[] = {1.f / 120, 1.f / 24, 1.f / 6, 1.f / 2, 1.f, 1.f};
    __m512 sum = _mm512_set1_ps(1.f / 720);
    for (int i = 0; i < 6; i++)
        sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(factors[i]));
    return _mm512_scalef_ps(sum, n);
}

/* The sums of four vectors' lanes, as the four lanes of one. */
static inline __m128 sums_of_four(__m512 a, __m512 b, __m512 c, __m512 d) {
    __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    __m512 low = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd)));
    __m512 high = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd)));
    __m512 abcd = _mm512_add_ps(low, high);
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256(abcd), _mm512_extractf32x8_ps(abcd, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

#define INLINE static inline __attribute__((always_inline))

INLINE void score(const Arguments *a, const uint16_t *keys, const Visible *seen,
                  const float *query, float *scores, const int queries) {
    for (int64_t i = 0; i < seen->count; i += KEYS) {
        const uint16_t *rows[KEYS];
        for (int k = 0; k < KEYS; k++) {
            int64_t seen_key = i + k < seen->count ? i + k : seen->count - 1;
            rows[k] = keys + row_of(seen, seen_key) * a->key_row;
        }
        __m512 sums[QUERIES][KEYS];
        for (int q = 0; q < queries; q++)
            for (int k = 0; k < KEYS; k++) sums[q][k] = _mm512_setzero_ps();
        for (int64_t d = 0; d < a->key_dim; d += LANES)
            for (int k = 0; k < KEYS; k++) {
                __m512 features = widen(rows[k] + d);
                for (int q = 0; q < queries; q++)
                    sums[q][k] = _mm512_fmadd_ps(
                        features, _mm512_loadu_ps(query + q * a->key_dim + d), sums[q][k]);
            }
        for (int q = 0; q < queries; q++)
            _mm_storeu_ps(scores + q * a->room_columns + i,
                          sums_of_four(sums[q][0], sums[q][1], sums[q][2], sums[q][3]));
    }
}

/* Scores to weights, not yet divided by their sum, which is returned. */
static float weigh(float *scores, int64_t count, float scale) {
    int64_t end = (count + LANES - 1) / LANES * LANES;
    for (int64_t i = count; i < end; i++) scores[i] = -INFINITY;
    __m512 largest = _mm512_set1_ps(-INFINITY), scales = _mm512_set1_ps(scale);
    for (int64_t i = 0; i < end; i += LANES) {
        __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(scores + i), scales);
        _mm512_storeu_ps(scores + i, scaled);
        largest = _mm512_max_ps(largest, scaled);
    }
    largest = _mm512_set1_ps(_mm512_reduce_max_ps(largest));
    __m512 sum = _mm512_setzero_ps();
    for (int64_t i = 0; i < end; i += LANES) {
        __m512 weight = exponential(_mm512_sub_ps(_mm512_loadu_ps(scores + i), largest));
        _mm512_storeu_ps(scores + i, weight);
        sum = _mm512_add_ps(sum, weight);
    }
    return _mm512_reduce_add_ps(sum);
}

INLINE void mix(const Arguments *a, const uint16_t *values, const Visible *seen,
                const float *weights, const float *sums, uint16_t *output, const int queries,
                const int chunk) {
    __m512 mixed[QUERIES][CHUNK];
    for (int q = 0; q < queries; q++)
        for (int c = 0; c < chunk; c++) mixed[q][c] = _mm512_setzero_ps();
    for (int64_t i = 0; i < seen->count; i++) {
        const uint16_t *row = values + row_of(seen, i) * a->value_row;
        for (int c = 0; c < chunk; c++) {
            __m512 features = widen(row + c * LANES);
            for (int q = 0; q < queries; q++)
                mixed[q][c] = _mm512_fmadd_ps(
                    features, _mm512_set1_ps(weights[q * a->room_columns + i]), mixed[q][c]);
        }
    }
    for (int q = 0; q < queries; q++)
        for (int c = 0; c < chunk; c++)
            _mm256_storeu_si256((void *)(output + q * a->value_dim + c * LANES),
                                narrow(_mm512_div_ps(mixed[q][c], _mm512_set1_ps(sums[q]))));
}

INLINE void attend(const Arguments *a, int64_t row, int64_t kv_head, int64_t first_query,
                   const int queries, float *room) {
    const int32_t *line = a->paths + row * a->path_columns;
    int64_t first = line[0], length = line[1], skipped = first > a->prefix ? first - a->prefix : 0;
    int64_t num_cached = skipped ? 0 : a->prefix - first;
    Visible seen = {line + 2 + skipped, first, num_cached, a->prefix,
                    num_cached + length - skipped};
    int64_t head = kv_head * a->group + first_query;
    float *query = room, *scores = room + QUERIES * a->key_dim, sums[QUERIES];
    for (int q = 0; q < queries; q++) {
        const uint16_t *features = a->query + (head + q) * a->query_head + row * a->query_row;
        for (int64_t d = 0; d < a->key_dim; d += LANES)
            _mm512_storeu_ps(query + q * a->key_dim + d, widen(features + d));
    }
    score(a, a->key + kv_head * a->key_head, &seen, query, scores, queries);
    for (int q = 0; q < queries; q++)
        sums[q] = weigh(scores + q * a->room_columns, seen.count, a->scale);
    const uint16_t *values = a->value + kv_head * a->value_head;
    uint16_t *output = a->output + (row * a->num_kv_heads * a->group + head) * a->value_dim;
    int64_t d = 0;
    for (; d + CHUNK * LANES <= a->value_dim; d += CHUNK * LANES)
        mix(a, values + d, &seen, scores, sums, output + d, queries, CHUNK);
    for (; d < a->value_dim; d += LANES)
        mix(a, values + d, &seen, scores, sums, output + d, queries, 1);
}

void path_attention(const Arguments *a) {
    int64_t parts = (a->group + QUERIES - 1) / QUERIES;
    int64_t num_units = a->num_paths * a->num_kv_heads * parts;
    int64_t room_size = QUERIES * (a->key_dim + a->room_columns);
#pragma omp parallel for schedule(static) num_threads(a->num_threads)
    for (int64_t unit = 0; unit < num_units; unit++) {
        float *room = a->room + omp_get_thread_num() * room_size;
        int64_t part = unit % parts, row = unit / parts % a->num_paths;
        int64_t kv_head = unit / parts / a->num_paths;
        int64_t first = part * a->group / parts, queries = (part + 1) * a->group / parts - first;
        switch (queries) {
        case 1: attend(a, row, kv_head, first, 1, room); break;
        case 2: attend(a, row, kv_head, first, 2, room); break;
        case 3: attend(a, row, kv_head, first, 3, room); break;
        default: attend(a, row, kv_head, first, 4, room);
        }
    }
    int64_t size = a->num_kv_heads * a->group * a->value_dim;
    uint16_t *last = a->output + (a->num_paths - 1) * size;
    for (int64_t row = a->num_paths; row < a->num_rows; row++)
        memcpy(a->output + row * size, last, size * sizeof *last);
}
