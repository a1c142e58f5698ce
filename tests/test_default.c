/* The embedded corpus is held out by construction: every prompt's FNV-1a hash is divisible by 16, which the training stream
 * refuses (datasets/make_default/tasks.py asserts it), and no prompt stands twice. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/err.h"
#include "base/map.h"
#include "base/mem.h"
#include "data/json.h"
#include "data/zfile.h"

static uint64_t fnv1a(const char *s, size_t len)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)s[i]) * UINT64_C(0x100000001b3);
    return h;
}

static void known_hashes(void **state)
{
    (void)state;
    assert_true(fnv1a("", 0) == UINT64_C(0xcbf29ce484222325));
    assert_true(fnv1a("foobar", 6) == UINT64_C(0x85944171f73967e8));
}

static void corpus_is_held_out(void **state)
{
    (void)state;
    struct zreader *r = zreader_open("datasets/default.jsonl.zst");
    assert_non_null(r);
    struct map seen = {0};
    struct arena prompts = {0};
    char *line;
    size_t len, n = 0;
    while (zreader_line(r, &line, &len) > 0) {
        struct json *j = json_parse_line(line, len);
        assert_non_null(j);
        size_t n_prompt;
        const char *prompt = json_text(json_get(j, "prompt"), &n_prompt);
        assert_non_null(prompt);
        assert_non_null(json_text(json_get(j, "expected"), NULL));
        if (fnv1a(prompt, n_prompt) % 16)
            fail_msg("line %zu is not held out: %s", n + 1, prompt);
        if (!map_put(&seen, arena_dup(&prompts, prompt, n_prompt), n_prompt, 0))
            fail_msg("line %zu stands twice: %s", n + 1, prompt);
        json_free(j);
        n++;
    }
    zreader_close(r);
    assert_true(n >= 2000);
    map_free(&seen);
    arena_free(&prompts);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(known_hashes), cmocka_unit_test(corpus_is_held_out) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
