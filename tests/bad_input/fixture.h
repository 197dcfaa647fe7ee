/* What every case starts from: a small model with random weights, six edits, and a configuration that runs on them. */
#ifndef TESTS_BAD_INPUT_FIXTURE_H
#define TESTS_BAD_INPUT_FIXTURE_H

/*
 * Writes into the working directory, which must be empty:
 *
 *     run.yaml
 *     data.json
 *     model/{config.json, model.safetensors, tokenizer.model}
 *
 * tokenizer: the SentencePiece file to copy, of at most 2048 pieces. What stands where in these files is in fixture.c;
 * the cases rely on it.
 */
void fixture_write(const char *tokenizer);

#endif
