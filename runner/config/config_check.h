/*
 * From settings to one resolved run: defaults, presets, what the method reads; and the checks that need more than one
 * key. Private to runner/config.
 */
#ifndef RUNNER_CONFIG_CONFIG_CHECK_H
#define RUNNER_CONFIG_CONFIG_CHECK_H

#include "runner/config/config_source.h"

/* The settings in effect for one run: [n_key], NULL where the default or a preset stands. */
typedef const lemoe_config_setting *const *lemoe_config_chosen;

/* Local. The method a run has: its setting's text, or the default. */
const char *lemoe_config_chosen_method(lemoe_config_chosen chosen);
/* Local. Works out source->defaults, once. */
lemoe_status lemoe_config_prepare_defaults(lemoe_config_source *source) LEMOE_MUST_CHECK;
/* Local. Fills *out (any content before); the defaults are prepared. Keys the method does not read keep their defaults.
 * Errors: CONFIG for a required key that is missing. */
lemoe_status lemoe_config_resolve(const lemoe_config_source *source, lemoe_config_chosen chosen,
                                  lemoe_config *out) LEMOE_MUST_CHECK;
/* Local. Combinations that make no sense. Errors: CONFIG at the place of a key to change; label names the run. */
lemoe_status lemoe_config_check_run(const lemoe_config_source *source, lemoe_config_chosen chosen,
                                    const lemoe_config *config, const char *label) LEMOE_MUST_CHECK;
/* Local. Every key that was written is read by some run, or, if the file wrote it, by a method the file names. */
lemoe_status lemoe_config_check_sections(const lemoe_config_source *source) LEMOE_MUST_CHECK;

#endif
