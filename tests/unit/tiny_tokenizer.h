/*
 * A SentencePiece model of our choosing, written as the protocol buffer it is (sentencepiece_model.proto): a unigram
 * model in which longer pieces win, so a test can say exactly how text is cut, merges over a boundary included.
 */
#ifndef TESTS_UNIT_TINY_TOKENIZER_H
#define TESTS_UNIT_TINY_TOKENIZER_H

#include <stdio.h>
#include <string.h>

/* A white space as SentencePiece writes it. */
#define SPM_SPACE "\xe2\x96\x81"

enum { SPM_NORMAL = 1, SPM_UNKNOWN = 2, SPM_CONTROL = 3 };

/* Field 1 of the model: {piece = 1, score = 2, type = 3}; texts are short, so every length is one byte. */
static inline void tiny_put_piece(FILE *file, const char *text, float score, int type) {
    unsigned char length = (unsigned char)strlen(text), bytes[4];
    memcpy(bytes, &score, 4); /* little-endian, as is every machine these tests run on */
    const unsigned char head[] = {0x0a, (unsigned char)(length + 9), 0x0a, length},
                        kind[] = {0x18, (unsigned char)type};
    (void)fwrite(head, 1, sizeof head, file);
    (void)fwrite(text, 1, length, file);
    (void)fputc(0x15, file);
    (void)fwrite(bytes, 1, 4, file);
    (void)fwrite(kind, 1, sizeof kind, file);
}

/* Writes folder/tokenizer.model: <unk> <s> </s>, then the pieces (NULL-terminated), ids from 3. Returns how many. */
static inline int tiny_tokenizer_write(const char *folder, const char *const *pieces) {
    char path[512];
    int n = 3;
    (void)snprintf(path, sizeof path, "%s/tokenizer.model", folder);
    FILE *file = fopen(path, "wb");
    if (!file) return -1;
    tiny_put_piece(file, "<unk>", 0, SPM_UNKNOWN);
    tiny_put_piece(file, "<s>", 0, SPM_CONTROL);
    tiny_put_piece(file, "</s>", 0, SPM_CONTROL);
    for (; pieces[n - 3]; n++) tiny_put_piece(file, pieces[n - 3], -1.0f, SPM_NORMAL); /* fewest pieces win */
    /* trainer_spec = 2 {model_type = 3: unigram}; normalizer_spec = 3 {name = 1: identity} */
    (void)fwrite("\x12\x02\x18\x01\x1a\x0a\x0a\x08identity", 1, 16, file);
    return fclose(file) == 0 ? n : -1;
}

#endif
