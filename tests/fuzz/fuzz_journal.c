/* Journals: of a run with the same facts, or of bytes altogether.  Whatever is in one, the promised ends are within the files, the counts
 * add up, it can be gone on with, and is then read again as it was left. */
#include "tests/fuzz/fuzz.h"

#include "data/journal.h"

static const struct journal_fact facts[] = { { "model", "m" }, { "--seed", "0" } };
static const uint64_t sizes[JOURNAL_N_FILE] = { 1 << 20, 1 << 10 };

static struct journal *open_it(void)
{
    bool busy;
    struct journal *j = journal_open(fuzz_path("journal"), facts, 2, sizes, &busy);
    if (!j)
        fuzz_said_why();
    return j;
}

static struct journal_count counts_of(const struct journal *j)
{
    struct journal_count c;
    CHECK(journal_counts(j, &c) == 0);
    CHECK(c.n_line <= c.n_row && c.n_failed <= c.n_row);
    for (int i = 0; i < JOURNAL_N_FILE; i++)
        CHECK(journal_end(j, i) <= sizes[i]);
    return c;
}

/* What a new journal of these facts begins with. */
static void put_header(struct buf *b)
{
    static char header[512];
    static size_t len;
    if (!len) {
        fuzz_write("journal", "", 0);
        journal_close(open_it());
        FILE *f = fopen(fuzz_path("journal"), "rb");
        CHECK(f);
        len = fread(header, 1, sizeof header, f);
        fclose(f);
    }
    buf_put(b, header, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf text = {0};
    if (size && data[0] % 8)
        put_header(&text);
    buf_put(&text, data, size);
    fuzz_write("journal", text.data, text.len);
    buf_free(&text);
    struct journal *j = open_it();
    if (!j)
        return 0;
    struct journal_count before = counts_of(j), after;
    journal_add(j, 3, 7, true);
    journal_cut(j, 2);
    CHECK(journal_commit(j, (uint64_t[]){ journal_end(j, 0), journal_end(j, 1) }) == 0);
    journal_close(j);
    j = open_it();
    CHECK(j && !journal_is_new(j) && journal_line(j, 3, 7) == JOURNAL_DONE && journal_line(j, 3, 8) == JOURNAL_CHANGED);
    after = counts_of(j);
    CHECK(after.n_row == before.n_row + 1 && after.n_failed == before.n_failed + 1);
    CHECK(journal_end_run(j) == 0);
    return 0;
}
