/* Rows of bfloat16 features times a plain bfloat16 matrix, for CPUs with AMX.

   A few rows take as long as the weights take to read. A tile takes its weights from where they
   lie, 16 outputs by 32 inputs, so nothing has to be laid out anew; the features are, once a call.
   Each row is a column of the other tile. What is summed for it, and in which order, depends on it
   alone, whichever rows stand beside it: contract L2. */

#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Of the arguments: `tile_linear.py` compares it with its own. */
int tile_linear_version(void) { return 3; }

/* Linux gives a process the registers of tiles when it asks: ARCH_REQ_XCOMP_PERM for XTILEDATA. */
static int may_use_tiles(void) { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }

int tile_linear_is_supported(void) {
    return __builtin_cpu_supports("amx-bf16") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && may_use_tiles();
}

#pragma GCC target("avx512f,avx512bw,avx512vl,amx-tile,amx-bf16")
#include "bfloat16.h"
#include "linear_parts.h"

/* Outputs, rows and pairs of inputs of a tile; products of one call of the instruction. */
enum { TILE = 16, INPUTS = 2 * TILE, WORDS = TILE * TILE };
enum { AHEAD = 6 * INPUTS }; /* inputs of what is read; a third as many were slower */

/* Every register is 16 rows of 64 bytes. */
static void configure_tiles(void) {
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config;
    memset(&config, 0, sizeof config);
    config.palette = 1;
    for (int i = 0; i < 8; i++) config.rows[i] = TILE, config.row_bytes[i] = 64;
    _tile_loadconfig(&config);
}

/* One pair of all rows. Pair p of row r becomes word [p][r] of its tile. Columns of rows that are
   not there stay what they are: nobody reads what they give. */
static void lay_out(const uint32_t *pairs, int64_t num_rows, int64_t num_pairs, uint32_t *words) {
    for (int64_t row = 0; row < num_rows; row++)
        words[row / TILE * TILE * num_pairs + row % TILE] = pairs[row * num_pairs];
}

/* Every row is a stream of its own, which the processor must get to know. */
static void fetch(const uint16_t *weights, int64_t num_inputs) {
    for (int row = 0; row < 2 * TILE; row++)
        _mm_prefetch((const char *)(weights + row * num_inputs), _MM_HINT_T0);
}

/* Two tiles of outputs for one or two of rows; sums: [tiles of rows, tiles of outputs, 16, 16]. */
static void multiply(const uint16_t *weights, const uint32_t *features, int num_row_tiles,
                     int64_t num_inputs, float *sums) {
    const uint16_t *more_weights = weights + TILE * num_inputs;
    const uint32_t *more_features = features + TILE * num_inputs / 2;
    const uint16_t *next = more_weights + TILE * num_inputs;
    int64_t stride = 2 * num_inputs;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t i = 0; i < num_inputs; i += INPUTS) {
        const uint16_t *ahead = i + AHEAD < num_inputs ? weights : next - num_inputs;
        fetch(ahead + i + AHEAD, num_inputs);
        _tile_loadd(4, weights + i, stride);
        _tile_loadd(5, more_weights + i, stride);
        _tile_loadd(6, features + WORDS * i / INPUTS, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 5, 6);
        if (num_row_tiles == 2) {
            _tile_loadd(7, more_features + WORDS * i / INPUTS, 64);
            _tile_dpbf16ps(2, 4, 7);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, sums, 64);
    _tile_stored(1, sums + WORDS, 64);
    _tile_stored(2, sums + 2 * WORDS, 64);
    _tile_stored(3, sums + 3 * WORDS, 64);
}

/* The sums of one row are a column of a tile. */
static void finish(const float *sums, const uint16_t *bias, uint16_t *products) {
    const __m512i lanes = _mm512_mullo_epi32(
        _mm512_set1_epi32(TILE),
        _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    for (int tile = 0; tile < 2; tile++) {
        __m512 values = _mm512_i32gather_ps(lanes, sums + tile * WORDS, sizeof *sums);
        if (bias) values = _mm512_add_ps(values, widen(bias + tile * TILE));
        _mm256_storeu_si256((void *)(products + tile * TILE), narrow(values));
    }
}

/* rows: [num_rows, num_inputs]; room: for the rows, rounded up to a multiple of 16. The weights of a
   part are [num_outputs, num_inputs]: at least 32 outputs, and a multiple of 32 inputs. */
void tile_linear(const uint16_t *rows, const Part *parts, int64_t num_parts, int64_t num_rows,
                 int64_t num_inputs, uint32_t *room, int num_threads) {
    const int64_t num_pairs = num_inputs / 2;
    const int64_t num_blocks = count_all_blocks(parts, num_parts, 2 * TILE);
#pragma omp parallel num_threads(num_threads)
    {
#pragma omp for schedule(static)
        for (int64_t pair = 0; pair < num_pairs; pair++)
            lay_out((const uint32_t *)rows + pair, num_rows, num_pairs, room + TILE * pair);
        configure_tiles();
        float sums[4 * WORDS];
#pragma omp for schedule(static)
        for (int64_t i = 0; i < num_blocks; i++) {
            int64_t block = i;
            const Part *part = find_part(parts, 2 * TILE, &block);
            /* The last block overlaps the one before it, and gives the same there. */
            int64_t first = 2 * TILE * block;
            if (first > part->num_outputs - 2 * TILE) first = part->num_outputs - 2 * TILE;
            const uint16_t *weights = (const uint16_t *)part->weights + first * num_inputs;
            const uint16_t *bias = part->bias ? part->bias + first : 0;
            /* The weights of the block are in the cache for all rows but the first. */
            for (int64_t row = 0; row < num_rows; row += 2 * TILE) {
                int64_t count = num_rows - row < 2 * TILE ? num_rows - row : 2 * TILE;
                multiply(weights, room + row * num_pairs, count > TILE ? 2 : 1, num_inputs, sums);
                for (int64_t j = 0; j < count; j++)
                    finish(sums + j / TILE * 2 * WORDS + j % TILE, bias,
                           part->products + (row + j) * part->num_outputs + first);
            }
        }
        _tile_release();
    }
}
