"""Figures for a paper: of two widths, every method the same in all of them, and none told apart by colour alone."""

import unittest

import matplotlib.colors
import numpy as np
from cases import Case, sweep
from lemoe_analysis import cost, forgetting, order, routing, similarity, style


class Figures(Case):
    @classmethod
    def setUpClass(cls):
        style.use()
        sections = [module.build(sweep()) for module in (forgetting, routing, order, similarity, cost)]
        cls.pictures = [picture for section in sections for picture in section.pictures]

    def test_one_or_two_columns(self):
        self.assertEqual(
            {p.figure.get_figwidth() for p in self.pictures} - {style.ONE_COLUMN, style.TWO_COLUMNS}, set()
        )
        for picture in self.pictures:
            self.assertLess(picture.figure.get_figheight(), 8, "fits on a page")

    def test_axes_are_labelled(self):
        """An axis without a label shares that of the panel below or beside it."""
        for picture in self.pictures:
            axes = [axis for axis in picture.figure.axes if axis.get_visible()]
            for axis in axes:
                self.assertTrue(axis.get_xlabel() or axis.get_ylabel(), picture.name)
            self.assertTrue(any(axis.get_xlabel() for axis in axes), picture.name)
            methods = {label.get_text() for axis in axes for label in axis.get_yticklabels()} & {"MoE"}
            self.assertTrue(methods or any(axis.get_ylabel() for axis in axes), picture.name)

    def test_a_method_has_one_colour_and_marker_everywhere(self):
        wanted = {look.name: look for look in style.LOOKS.values()}
        seen = 0
        for picture in self.pictures:
            for axis in picture.figure.axes:
                for handle, label in zip(*axis.get_legend_handles_labels()):
                    colour = handle.lines[0].get_color() if hasattr(handle, "lines") else handle.get_facecolor()[0]
                    np.testing.assert_allclose(
                        matplotlib.colors.to_rgb(colour), matplotlib.colors.to_rgb(wanted[label].colour)
                    )
                    if hasattr(handle, "lines"):
                        self.assertEqual(handle.lines[0].get_marker(), wanted[label].marker)
                    seen += 1
        self.assertGreater(seen, 20)

    def test_text_is_not_cut_off(self):
        for picture in self.pictures:
            self.assert_not_cut_off(picture)


class Looks(unittest.TestCase):
    def test_no_two_methods_share_marker_and_dash_or_colour(self):
        looks = list(style.LOOKS.values())
        self.assertEqual(len({(look.marker, str(look.dash)) for look in looks}), len(looks))
        self.assertEqual(len({look.marker for look in looks}), len(looks), "so they stay apart in grey")
        first = [style.LOOKS[name].colour for name in ("lemoe-stable", "lemoe-paper", "moe", "ft_m", "none")]
        self.assertEqual(len(set(first)), len(first))

    def test_heat_maps_are_even_in_grey(self):
        ramp = matplotlib.colormaps[style.MAP](np.linspace(0, 1, 64))[:, :3]
        grey = ramp @ [0.299, 0.587, 0.114]
        self.assertTrue((np.diff(grey) > 0).all())

    def test_an_unknown_editor_still_has_a_look(self):
        self.assertEqual(style.look("next_editor").name, "next_editor")

    def test_groups_of_one_method_stay_apart(self):
        looks = {(style.variant("moe", i).marker, str(style.variant("moe", i).dash)) for i in range(5)}
        self.assertEqual(len(looks), 5)


if __name__ == "__main__":
    unittest.main()
