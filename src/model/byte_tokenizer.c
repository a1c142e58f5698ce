/* byte_tokenizer.c - a tokenizer for models that never saw a text: byte-level BPE without merges. */
#include "data/json.h"
#include "model/config.h"

/* GPT-2's visible character for a byte: itself where it is printable, else one from U+0100 on (as UTF-8, two bytes). */
static void put_byte_char(struct buf *b, int byte, int *n_moved)
{
    char utf8[2];
    bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    int code = printable ? byte : 0x100 + (*n_moved)++;
    utf8[0] = code < 0x80 ? (char)code : (char)(0xC0 | code >> 6);
    utf8[1] = (char)(0x80 | (code & 0x3F));
    json_put_string(b, utf8, code < 0x80 ? 1 : 2);
}

void byte_tokenizer_put_json(struct buf *b)
{
    static const char part[] = "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": true}";
    int n_moved = 0;
    buf_printf(b, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [{\"id\": %d, \"content\": "
                  "\"<|endoftext|>\", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": true}],\n",
               BYTE_TOKENIZER_EOS);
    buf_printf(b, "  \"normalizer\": null,\n  \"pre_tokenizer\": %s,\n  \"post_processor\": null,\n  \"decoder\": %s,\n", part, part);
    buf_puts(b, "  \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": null, \"continuing_subword_prefix\": null, "
                "\"end_of_word_suffix\": null, \"fuse_unk\": false, \"byte_fallback\": false, \"ignore_merges\": false, \"merges\": [], \"vocab\": {");
    for (int byte = 0; byte < 256; byte++) {
        buf_puts(b, byte ? ", " : "");
        put_byte_char(b, byte, &n_moved);
        buf_printf(b, ": %d", byte);
    }
    buf_puts(b, "}}\n}\n");
}
