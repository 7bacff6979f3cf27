"""Operations on whole numbers: general, statistics, text charts and colours."""

from tools.starter.suite.operation import Operation, choice, integer, operation

_SMALL = integer(2, 9)
_COUNT = integer(2, 5)
_THRESHOLD = integer(3, 40)

FILTERS_AND_MAPS: tuple[Operation, ...] = (
    operation(
        "keep_above", "values -> values", "[v for v in {x} if v > {n}]",
        "keep the values above {n}", "keep values greater than {n}", n=_THRESHOLD,
    ),
    operation(
        "keep_below", "values -> values", "[v for v in {x} if v < {n}]",
        "keep the values below {n}", "keep values less than {n}", n=_THRESHOLD,
    ),
    operation(
        "keep_even", "values -> values", "[v for v in {x} if v % 2 == 0]",
        "keep the even values", "drop the odd values",
    ),
    operation(
        "keep_odd", "values -> values", "[v for v in {x} if v % 2 == 1]",
        "keep the odd values", "drop the even values",
    ),
    operation(
        "keep_multiples", "values -> values", "[v for v in {x} if v % {n} == 0]",
        "keep the multiples of {n}", "keep values divisible by {n}", n=integer(3, 7),
    ),
    operation(
        "drop_multiples", "values -> values", "[v for v in {x} if v % {n} != 0]",
        "drop the multiples of {n}", "drop values divisible by {n}", n=integer(3, 7), rare=True,
    ),
    operation(
        "square", "values -> values", "[v * v for v in {x}]",
        "square each value", "replace each value by its square",
    ),
    operation(
        "absolute", "values -> values", "[abs(v) for v in {x}]",
        "take absolute values", "drop the sign of each value",
    ),
    operation(
        "multiply", "values -> values", "[v * {n} for v in {x}]",
        "multiply each value by {n}", n=_SMALL,
    ),
    operation(
        "add", "values -> values", "[v + {n} for v in {x}]",
        "add {n} to each value", "increase each value by {n}", n=_SMALL,
    ),
    operation(
        "subtract", "values -> values", "[v - {n} for v in {x}]",
        "subtract {n} from each value", "decrease each value by {n}", n=_SMALL,
    ),
    operation("negate", "values -> values", "[-v for v in {x}]", "negate each value"),
    operation(
        "remainder", "values -> values", "[v % {n} for v in {x}]",
        "take each value modulo {n}", "take the remainder of each value by {n}", n=integer(3, 9),
    ),
    operation(
        "floor_divide", "values -> values", "[v // {n} for v in {x}]",
        "divide each value by {n} rounding down", n=_SMALL, rare=True,
    ),
    operation(
        "cap", "values -> values", "[min(v, {n}) for v in {x}]",
        "cap each value at {n}", "limit each value to at most {n}", n=_THRESHOLD,
    ),
    operation(
        "raise_to", "values -> values", "[max(v, {n}) for v in {x}]",
        "raise each value to at least {n}", n=integer(2, 20), rare=True,
    ),
    operation(
        "sort_up", "values -> values", "sorted({x})",
        "sort the values", "sort the values in ascending order",
    ),
    operation(
        "sort_down", "values -> values", "sorted({x}, reverse=True)",
        "sort the values in descending order", "sort the values from largest to smallest",
    ),
    operation(
        "sort_by_digit", "values -> values", "sorted({x}, key=lambda v: v % 10)",
        "sort the values by last digit", rare=True,
    ),
    operation("reverse", "values -> values", "{x}[::-1]", "reverse the values"),
    operation(
        "unique", "values -> values", "list(dict.fromkeys({x}))",
        "remove repeated values", "drop duplicate values",
    ),
    operation(
        "first", "values -> values", "{x}[:{k}]",
        "take the first {k} values", "keep only the first {k} values", k=_COUNT,
    ),
    operation(
        "last", "values -> values", "{x}[-{k}:]",
        "take the last {k} values", "keep only the last {k} values", k=_COUNT,
    ),
    operation(
        "skip", "values -> values", "{x}[{k}:]",
        "skip the first {k} values", "drop the first {k} values", k=integer(1, 3),
    ),
    operation("every_other", "values -> values", "{x}[::2]", "take every second value"),
    operation(
        "differences", "values -> values", "[b - a for a, b in pairwise({x})]",
        "take the differences of neighbours", "subtract each value from the next",
        needs="from itertools import pairwise",
    ),
    operation(
        "running_sum", "values -> values", "list(accumulate({x}))",
        "take running sums", "compute the running total", needs="from itertools import accumulate",
    ),
    operation(
        "running_maximum", "values -> values", "list(accumulate({x}, max))",
        "take the running maximum", needs="from itertools import accumulate",
    ),
    operation(
        "largest", "values -> values", "heapq.nlargest({k}, {x})",
        "take the {k} largest values", "select the {k} largest values",
        needs="import heapq", k=_COUNT,
    ),
    operation(
        "smallest", "values -> values", "heapq.nsmallest({k}, {x})",
        "take the {k} smallest values", "select the {k} smallest values",
        needs="import heapq", k=_COUNT,
    ),
    operation(
        "greatest_divisor", "values -> values", "[math.gcd(v, {n}) for v in {x}]",
        "take the gcd of each value and {n}", needs="import math", n=integer(6, 48),
    ),
    operation(
        "square_root", "values -> values", "[math.isqrt(abs(v)) for v in {x}]",
        "take the integer square root of each absolute value", needs="import math",
    ),
    operation(
        "digit_sum", "values -> values", "[sum(map(int, str(abs(v)))) for v in {x}]",
        "take the digit sum of each value", "add up the digits of each value",
    ),
    operation(
        "modes", "values -> values", "statistics.multimode({x})",
        "take all modes", needs="import statistics", rare=True,
    ),
    operation(
        "bit_count", "values -> values", "[abs(v).bit_count() for v in {x}]",
        "count the one bits of each value", rare=True,
    ),
)  # fmt: skip

SUMMARIES: tuple[Operation, ...] = (
    operation("sum", "values -> number", "sum({x})", "sum the values", "take their sum"),
    operation(
        "maximum", "values -> number", "max({x}, default=0)",
        "take the largest value or 0", "take the maximum or 0",
    ),
    operation(
        "minimum", "values -> number", "min({x}, default=0)",
        "take the smallest value or 0", "take the minimum or 0",
    ),
    operation("count", "values -> number", "len({x})", "count the values",
              "take the number of values"),
    operation("count_distinct", "values -> number", "len(set({x}))", "count the distinct values"),
    operation(
        "range", "values -> number", "max({x}) - min({x})",
        "take the range", "take the largest minus the smallest value",
    ),
    operation(
        "product", "values -> number", "math.prod({x})",
        "multiply the values together", "take their product", needs="import math",
    ),
    operation(
        "common_divisor", "values -> number", "math.gcd(*{x})",
        "take their greatest common divisor", needs="import math",
    ),
    operation(
        "common_multiple", "values -> number", "math.lcm(*{x})",
        "take their least common multiple", needs="import math", rare=True,
    ),
    operation(
        "exclusive_or", "values -> number", "reduce(xor, {x}, 0)",
        "combine the values by exclusive or",
        needs=("from functools import reduce", "from operator import xor"), rare=True,
    ),
    operation(
        "mean", "values -> real", "round(statistics.fmean({x}), 2)",
        "take the mean rounded to 2 places", needs="import statistics",
    ),
    operation(
        "median", "values -> real", "statistics.median({x})",
        "take the median", "take the median value", needs="import statistics",
    ),
    operation(
        "low_median", "values -> number", "statistics.median_low({x})",
        "take the low median", needs="import statistics", rare=True,
    ),
    operation(
        "mode", "values -> number", "statistics.mode({x})",
        "take the mode", "take the most common value", needs="import statistics",
    ),
    operation(
        "deviation", "values -> real", "round(statistics.pstdev({x}), 2)",
        "take the population deviation rounded to 2 places", needs="import statistics",
    ),
    operation(
        "variance", "values -> real", "round(statistics.pvariance({x}), 2)",
        "take the population variance rounded to 2 places", needs="import statistics",
    ),
    operation("frequencies", "values -> counts", "Counter({x})", "count each value",
              "count how often each value occurs", needs="from collections import Counter"),
    operation("number_modulo", "number -> number", "{x} % {n}", "take the result modulo {n}",
              n=integer(5, 90)),
    operation("number_binary", "number -> text", "format({x}, 'b')", "write the result in binary"),
    operation("number_hexadecimal", "number -> text", "format({x}, 'x')",
              "write the result in hexadecimal"),
    operation("number_padded", "number -> text", "str({x}).zfill({n})",
              "pad the result with zeros to width {n}", n=_SMALL),
    operation("to_strings", "values -> words", "[str(v) for v in {x}]",
              "turn each value into a string"),
    operation("to_hexadecimal", "values -> words", "[format(v, 'x') for v in {x}]",
              "write each value in hexadecimal", rare=True),
)  # fmt: skip

PICTURES: tuple[Operation, ...] = (
    operation(
        "bars", "values -> words", "['#' * min(v, {n}) for v in {x}]",
        "draw each value as a bar of at most {n} hashes", n=integer(5, 30),
    ),
    operation(
        "columns", "values -> words", "[str(v).rjust({n}) for v in {x}]",
        "align each value right in a column of width {n}", n=integer(3, 9),
    ),
    operation(
        "sparkline", "values -> text", "''.join(' .:-=+*#'[v % 8] for v in {x})",
        "draw each value modulo 8 as a shade of ' .:-=+*#'",
    ),
    operation(
        "rainbow", "values -> colours", "[colorsys.hsv_to_rgb(v % {n} / {n}, 1, 1) for v in {x}]",
        "take the hue of each value modulo {n} over {n}",
        needs="import colorsys", n=integer(5, 12),
    ),
    operation(
        "greys", "values -> colours", "[colorsys.hsv_to_rgb(0, 0, v % {n} / {n}) for v in {x}]",
        "take the grey of each value modulo {n} over {n}",
        needs="import colorsys", n=integer(5, 12),
    ),
    operation(
        "tints", "values -> colours", "[colorsys.hls_to_rgb(0.5, v % {n} / {n}, 1) for v in {x}]",
        "take the cyan tint of each value modulo {n} over {n}",
        needs="import colorsys", n=integer(5, 12),
    ),
    operation(
        "darken", "colours -> colours", "[(r / {k}, g / {k}, b / {k}) for r, g, b in {x}]",
        "darken each colour by a factor of {k}", k=_COUNT,
    ),
    operation(
        "invert", "colours -> colours", "[(1 - r, 1 - g, 1 - b) for r, g, b in {x}]",
        "invert each colour",
    ),
    operation(
        "swap_channels", "colours -> colours", "[(b, g, r) for r, g, b in {x}]",
        "swap red and blue in each colour",
    ),
    operation(
        "colour_codes", "colours -> words",
        "['#' + ''.join(f'{{round(c * 255):02x}}' for c in rgb) for rgb in {x}]",
        "write each colour as a hex code",
    ),
    operation(
        "luminance", "colours -> values",
        "[round(colorsys.rgb_to_yiq(*rgb)[0] * 100) for rgb in {x}]",
        "take the YIQ luminance of each colour in whole percent", needs="import colorsys",
    ),
    operation(
        "red", "colours -> values", "[round(r * 255) for r, g, b in {x}]",
        "take the red channel of each colour from 0 to 255",
    ),
    operation(
        "green", "colours -> values", "[round(g * 255) for r, g, b in {x}]",
        "take the green channel of each colour from 0 to 255",
    ),
    operation(
        "saturation", "colours -> values",
        "[round(colorsys.rgb_to_hsv(*rgb)[1] * 100) for rgb in {x}]",
        "take the HSV saturation of each colour in whole percent", needs="import colorsys",
        rare=True,
    ),
    operation(
        "chart", "counts -> words", "[str(k) + ' ' + {c} * {x}[k] for k in sorted({x})]",
        "write each key in order with a bar of {c} for its count", c=choice("#", "*", "=", "+"),
    ),
)  # fmt: skip
