/* The block pool: tables of small cases, and a random walk of chains that share prefixes, with every invariant checked
 * after each step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "engine/blocks.h"
#include "engine/seq.h"

#define SIZE 2      /* tokens of a block */

static const int32_t ab[] = { 1, 2 }, cd[] = { 3, 4 }, ax[] = { 1, 9 };

static void takes_the_oldest_and_gives_back(void **state)
{
    (void)state;
    struct blocks b;
    blocks_init(&b, 3, SIZE, true);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(blocks_take(&b), i);
    assert_int_equal(blocks_take(&b), BLOCK_NONE);
    assert_int_equal(b.n_idle, 0);
    blocks_hold(&b, 1);
    blocks_drop(&b, 1);
    assert_int_equal(b.n_idle, 0);          /* one reader is left */
    blocks_drop(&b, 1);
    blocks_drop(&b, 0);
    assert_true(blocks_sane(&b));
    assert_int_equal(blocks_take(&b), 0);   /* nobody can find what is in it: it goes first */
    assert_int_equal(blocks_take(&b), 1);
    blocks_free(&b);
}

static void finds_a_chain_by_its_tokens(void **state)
{
    (void)state;
    struct blocks b;
    blocks_init(&b, 4, SIZE, true);
    uint32_t first = blocks_take(&b), second = blocks_take(&b), other = blocks_take(&b);
    assert_true(blocks_index(&b, first, BLOCK_NONE, ab));
    assert_true(blocks_index(&b, second, first, ab));           /* same tokens, another place */
    assert_int_equal(blocks_find(&b, BLOCK_NONE, ab), first);
    assert_int_equal(blocks_find(&b, first, ab), second);
    assert_int_equal(blocks_find(&b, second, ab), BLOCK_NONE);
    assert_int_equal(blocks_find(&b, BLOCK_NONE, ax), BLOCK_NONE);
    assert_false(blocks_index(&b, other, BLOCK_NONE, ab));      /* the first one indexed wins */
    assert_int_equal(blocks_find(&b, BLOCK_NONE, ab), first);
    assert_true(blocks_sane(&b));
    blocks_free(&b);
}

static void idle_content_lasts_until_overwritten(void **state)
{
    (void)state;
    struct blocks b;
    blocks_init(&b, 3, SIZE, true);
    uint32_t first = blocks_take(&b), second = blocks_take(&b);
    assert_true(blocks_index(&b, first, BLOCK_NONE, ab));
    assert_true(blocks_index(&b, second, first, cd));
    blocks_drop(&b, second);
    blocks_drop(&b, first);
    assert_int_equal(blocks_find(&b, first, cd), second);
    assert_int_equal(blocks_take(&b), 2);                       /* never used: nothing is lost by it */
    assert_int_equal(blocks_take(&b), second);                  /* the chain goes from its end */
    assert_int_equal(blocks_find(&b, first, cd), BLOCK_NONE);
    assert_int_equal(blocks_find(&b, BLOCK_NONE, ab), first);
    blocks_hold(&b, first);
    assert_int_equal(b.n_idle, 0);
    assert_true(blocks_sane(&b));
    blocks_free(&b);
}

/* The hash only says where to look; the tokens and the block before them decide. */
static void equal_hashes_are_not_enough(void **state)
{
    (void)state;
    struct blocks b;
    blocks_init(&b, 3, SIZE, true);
    uint32_t first = blocks_take(&b), second = blocks_take(&b);
    assert_true(blocks_index(&b, first, BLOCK_NONE, ab));
    assert_true(blocks_index(&b, second, first, cd));
    b.block[second].parent = 2;             /* as if another chain had this hash */
    assert_int_equal(blocks_find(&b, first, cd), BLOCK_NONE);
    b.block[second].parent = first;
    b.tokens[second * SIZE] = 77;           /* as if other tokens had it */
    assert_int_equal(blocks_find(&b, first, cd), BLOCK_NONE);
    assert_false(blocks_sane(&b));
    blocks_free(&b);
}

static void without_index_nothing_is_found(void **state)
{
    (void)state;
    struct blocks b;
    blocks_init(&b, 2, SIZE, false);
    uint32_t id = blocks_take(&b);
    assert_false(blocks_index(&b, id, BLOCK_NONE, ab));
    assert_int_equal(blocks_find(&b, BLOCK_NONE, ab), BLOCK_NONE);
    assert_true(blocks_sane(&b));
    blocks_free(&b);
}

/* A sequence counts what it found, what it computed and what it computed again. */
static void sequences_share_and_recompute(void **state)
{
    (void)state;
    struct blocks b;
    blocks_init(&b, 5, SIZE, true);
    int32_t tokens[] = { 1, 2, 3, 4, 5 };
    uint32_t table[2][3];
    struct seq a = { .tokens = tokens, .block = table[0], .n_prompt = 4, .n_token = 4, .max_len = 5 };
    struct seq c = { .tokens = tokens, .block = table[1], .n_prompt = 4, .n_token = 4, .max_len = 5 };
    assert_int_equal(seq_grow(&a, &b, 4), 4);
    assert_int_equal(seq_advance(&a, &b, 4), 0);
    assert_int_equal(a.n_indexed, 2);
    seq_reuse(&c, &b);
    assert_int_equal(c.n_done, 2);                  /* never the whole prompt */
    assert_int_equal(c.block[0], a.block[0]);
    assert_int_equal(seq_grow(&c, &b, 4), 4);
    assert_int_equal(seq_advance(&c, &b, 2), 0);
    assert_int_equal(c.n_cached, 2);
    assert_int_equal(c.n_indexed, 1);               /* a's second block came first */
    seq_drop_blocks(&c, &b);
    c.n_high = 3;                                   /* as if it had been stopped within the second block */
    c.n_token = 5;
    seq_reuse(&c, &b);
    assert_int_equal(c.n_done, 4);
    assert_int_equal(seq_grow(&c, &b, 5), 5);
    assert_int_equal(seq_advance(&c, &b, 1), 0);
    assert_int_equal(c.n_cached, 3);                /* of the tokens found, those that it had not computed */
    seq_drop_blocks(&c, &b);
    seq_drop_blocks(&a, &b);
    for (uint32_t i = 0; i < 5; i++)
        blocks_take(&b);                            /* all content is gone */
    for (uint32_t i = 0; i < 5; i++)
        blocks_drop(&b, i);
    seq_reuse(&c, &b);
    assert_int_equal(c.n_done, 0);
    assert_int_equal(seq_grow(&c, &b, 5), 5);
    assert_int_equal(seq_advance(&c, &b, 5), 5);
    assert_int_equal(c.n_recomputed, 5);
    assert_true(blocks_sane(&b));
    blocks_free(&b);
}

#define N_CHAIN 4
#define MAX_CHAIN 5

/* Chains over two different tokens grow, end and begin again; what blocks_find returns must hold those very tokens. */
static void random_walk(uint32_t n_block, bool index, uint64_t seed)
{
    struct blocks b;
    struct rng r;
    int32_t tokens[N_CHAIN][MAX_CHAIN * SIZE], content[8][MAX_CHAIN * SIZE];
    uint32_t table[N_CHAIN][MAX_CHAIN], n_found = 0;
    struct seq chain[N_CHAIN] = { 0 };
    blocks_init(&b, n_block, SIZE, index);
    rng_init(&r, seed);
    for (int step = 0; step < 20000; step++) {
        uint32_t i = rng_below(&r, N_CHAIN);
        struct seq *q = &chain[i];
        if (rng_below(&r, 4) == 0 || q->n_block == MAX_CHAIN) {
            seq_drop_blocks(q, &b);
            *q = (struct seq){ .tokens = tokens[i], .block = table[i], .n_token = MAX_CHAIN * SIZE, .max_len = MAX_CHAIN * SIZE };
            for (uint32_t k = 0; k < MAX_CHAIN * SIZE; k++)
                tokens[i][k] = (int32_t)rng_below(&r, 2);
            seq_reuse(q, &b);
            n_found += q->n_done;
            for (uint32_t k = 0; k < q->n_block; k++)
                assert_memory_equal(content[q->block[k]], tokens[i], (k + 1) * SIZE * sizeof(int32_t));
        } else if (q->tokens && seq_grow(q, &b, q->n_done + SIZE) == q->n_done + SIZE) {
            memcpy(content[q->block[q->n_block - 1]], tokens[i], sizeof tokens[i]);
            seq_advance(q, &b, SIZE);
        }
        assert_true(blocks_sane(&b));
    }
    assert_true(index ? n_found > 1000 : n_found == 0);
    blocks_free(&b);
}

static void random_walks(void **state)
{
    (void)state;
    for (uint32_t n_block = 2; n_block <= 8; n_block += 3)
        for (int index = 0; index < 2; index++)
            random_walk(n_block, index, n_block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_the_oldest_and_gives_back),
        cmocka_unit_test(finds_a_chain_by_its_tokens),
        cmocka_unit_test(idle_content_lasts_until_overwritten),
        cmocka_unit_test(equal_hashes_are_not_enough),
        cmocka_unit_test(without_index_nothing_is_found),
        cmocka_unit_test(sequences_share_and_recompute),
        cmocka_unit_test(random_walks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
