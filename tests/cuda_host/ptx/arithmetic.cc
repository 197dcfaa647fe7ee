/*
 * Instructions that compute a result from values, as the PTX ISA defines them: each is a function, and the table gives
 * it the names by which it goes. Approximations that the manual bounds are the exact value, rounded; sums and products
 * that an assembler may still contract are rounded each.
 */
#include "tests/cuda_host/ptx/ptx.h"

#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

using namespace ptx;

namespace {

/* ---- a function as an instruction: operand 0 is what it returns, the others are its arguments ---- */

template <auto function> struct of;
template <typename R, typename... A, R (*function)(A...)> struct of<function> {
    template <size_t... K> static void apply(const instruction *i, slot *slots, std::index_sequence<K...>) {
        put<R>(slots[i->operand[0]], function(get<A>(slots[i->operand[K + 1]])...));
    }
    static const instruction *act(const instruction *i, slot *slots) {
        apply(i, slots, std::index_sequence_for<A...>());
        return i + 1;
    }
    static constexpr int n_operand = 1 + (int)sizeof...(A);
};

template <auto function> void add(meanings *table, const std::string &name) {
    (*table)[name] = {of<function>::act, of<function>::n_operand};
}

/* ---- whole numbers; T says how wide, and where it matters whether there is a sign ---- */

template <typename T> using bits_of = std::make_unsigned_t<T>;
/* Computed in 64 bits without a sign, of which the low ones are the result. */
template <typename T> T plus(T a, T b) { return (T)((uint64_t)a + (uint64_t)b); }
template <typename T> T minus(T a, T b) { return (T)((uint64_t)a - (uint64_t)b); }
template <typename T> T times(T a, T b) { return (T)((uint64_t)a * (uint64_t)b); }
template <typename T> T times_plus(T a, T b, T c) { return (T)((uint64_t)a * (uint64_t)b + (uint64_t)c); }
template <typename T> T opposite(T a) { return (T)(0 - (uint64_t)a); }
template <typename W, typename T> W times_wide(T a, T b) { return (W)((W)a * (W)b); }
/* By 0 the manual leaves the result open, and the kernels' text forbids it. */
template <typename T> T over(T a, T b) {
    if (b == 0) cuda_host_die("ptx: a whole number is divided by 0");
    return b == (T)-1 && std::is_signed_v<T> ? opposite(a) : (T)(a / b);
}
template <typename T> T rest(T a, T b) { return minus<T>(a, times<T>(over<T>(a, b), b)); }
template <typename T> T smaller(T a, T b) { return b < a ? b : a; }
template <typename T> T larger(T a, T b) { return a < b ? b : a; }
/* As far as it has bits, and no further. */
template <typename T> T left(T a, uint32_t n) { return n < 8 * sizeof(T) ? (T)((bits_of<T>)a << n) : (T)0; }
template <typename T> T right(T a, uint32_t n) {
    const uint32_t furthest = 8 * sizeof(T) - 1;
    if (n > furthest && !std::is_signed_v<T>) return 0;
    return (T)(a >> (n < furthest ? n : furthest));
}
template <typename T> T both(T a, T b) { return (T)(a & b); }
template <typename T> T either(T a, T b) { return (T)(a | b); }
template <typename T> T differing(T a, T b) { return (T)(a ^ b); }
template <typename T> T inverted(T a) { return (T)~a; }
bool negated(bool a) { return !a; }

template <typename T> void add_whole(meanings *table, const std::string &type) {
    add<plus<T>>(table, "add." + type);
    add<minus<T>>(table, "sub." + type);
    add<times<T>>(table, "mul.lo." + type);
    add<times_plus<T>>(table, "mad.lo." + type);
    add<opposite<T>>(table, "neg." + type);
    add<over<T>>(table, "div." + type);
    add<rest<T>>(table, "rem." + type);
    add<smaller<T>>(table, "min." + type);
    add<larger<T>>(table, "max." + type);
    add<right<T>>(table, "shr." + type);
}

template <typename T> void add_bits(meanings *table, const std::string &type) {
    add<both<T>>(table, "and." + type);
    add<either<T>>(table, "or." + type);
    add<differing<T>>(table, "xor." + type);
    add<inverted<T>>(table, "not." + type);
    add<left<T>>(table, "shl." + type);
}

/* ---- numbers with a fraction ---- */

template <typename T> T sum(T a, T b) { return a + b; }
template <typename T> T difference(T a, T b) { return a - b; }
template <typename T> T product(T a, T b) { return a * b; }
template <typename T> T quotient(T a, T b) { return a / b; }
template <typename T> T fused(T a, T b, T c) { return std::fma(a, b, c); }
template <typename T> T reciprocal(T a) { return (T)1 / a; }
template <typename T> T root(T a) { return std::sqrt(a); }
template <typename T> T minus_of(T a) { return -a; }
/* NaN only if both are; +0 is larger than -0. */
template <typename T> T least(T a, T b) { return a < b || b != b || (a == b && std::signbit(a)) ? a : b; }
template <typename T> T most(T a, T b) { return a > b || b != b || (a == b && !std::signbit(a)) ? a : b; }

/* a b + c rounded down: the product is exact in double, and what its sum with c loses is, too. */
float fused_down(float a, float b, float c) {
    double x = (double)a * (double)b, y = c, rounded = x + y, back = rounded - x;
    double lost = (x - (rounded - back)) + (y - back);
    float nearest = (float)rounded;
    bool is_above = (double)nearest > rounded || ((double)nearest == rounded && lost < 0);
    return is_above ? std::nextafter(nearest, -std::numeric_limits<float>::infinity()) : nearest;
}

float flushed(float a) { return std::fpclassify(a) == FP_SUBNORMAL ? std::copysign(0.0f, a) : a; }
float power_of_two(float a) { return flushed((float)std::exp2((double)flushed(a))); }
float saturated(float a) { return a > 0.0f ? (a < 1.0f ? a : 1.0f) : 0.0f; }

double upper_half(double a) {
    uint64_t bits;
    memcpy(&bits, &a, sizeof bits);
    bits &= 0xffffffff00000000u;
    memcpy(&a, &bits, sizeof bits);
    return a;
}
/* Of the upper 32 bits, in as many. */
double rough_reciprocal(double a) { return upper_half(1.0 / upper_half(a)); }

template <typename T> void add_fractions(meanings *table, const std::string &type) {
    for (const char *rounding : {".", ".rn."}) {
        add<sum<T>>(table, "add" + (rounding + type));
        add<difference<T>>(table, "sub" + (rounding + type));
        add<product<T>>(table, "mul" + (rounding + type));
    }
    add<quotient<T>>(table, "div.rn." + type);
    add<fused<T>>(table, "fma.rn." + type);
    add<reciprocal<T>>(table, "rcp.rn." + type);
    add<root<T>>(table, "sqrt.rn." + type);
    add<minus_of<T>>(table, "neg." + type);
    add<least<T>>(table, "min." + type);
    add<most<T>>(table, "max." + type);
}

/* ---- comparisons, choices, copies ---- */

template <typename T> bool eq(T a, T b) { return a == b; }
template <typename T> bool ne(T a, T b) { return a < b || b < a; }
template <typename T> bool neu(T a, T b) { return !(a == b); }
template <typename T> bool lt(T a, T b) { return a < b; }
template <typename T> bool le(T a, T b) { return a <= b; }
template <typename T> bool gt(T a, T b) { return a > b; }
template <typename T> bool ge(T a, T b) { return a >= b; }
template <typename T> T chosen(T a, T b, bool first) { return first ? a : b; }
template <typename T> T same(T a) { return a; }

template <typename T> void add_comparisons(meanings *table, const std::string &type) {
    add<eq<T>>(table, "setp.eq." + type);
    add<ne<T>>(table, "setp.ne." + type);
    add<neu<T>>(table, "setp.neu." + type);
    add<lt<T>>(table, "setp.lt." + type);
    add<le<T>>(table, "setp.le." + type);
    add<gt<T>>(table, "setp.gt." + type);
    add<ge<T>>(table, "setp.ge." + type);
}

template <typename T> void add_copies(meanings *table, const std::string &type) {
    add<same<T>>(table, "mov." + type);
    add<chosen<T>>(table, "selp." + type);
}

/* ---- conversions ---- */

template <typename To, typename From> To converted(From a) { return (To)a; }
/* Rounded towards 0 to the nearest that there is; NaN becomes the lowest, as a GPU has it. */
int64_t whole_of(double a) {
    if (a >= 9223372036854775808.0) return std::numeric_limits<int64_t>::max();
    return a >= -9223372036854775808.0 ? (int64_t)a : std::numeric_limits<int64_t>::min();
}
double nearest_whole(double a) { return std::nearbyint(a); }
double whole_part(double a) { return std::trunc(a); }

uint64_t packed(uint32_t low, uint32_t high) { return (uint64_t)high << 32 | low; }
const instruction *unpack(const instruction *i, slot *slots) {
    uint64_t whole = get<uint64_t>(slots[i->operand[2]]);
    put<uint32_t>(slots[i->operand[0]], (uint32_t)whole);
    put<uint32_t>(slots[i->operand[1]], (uint32_t)(whole >> 32));
    return i + 1;
}

void add_conversions(meanings *table) {
    add<converted<int64_t, int32_t>>(table, "cvt.s64.s32");
    add<converted<uint64_t, uint32_t>>(table, "cvt.u64.u32");
    add<converted<uint32_t, uint64_t>>(table, "cvt.u32.u64");
    add<converted<uint32_t, uint16_t>>(table, "cvt.u32.u16");
    add<converted<uint16_t, uint32_t>>(table, "cvt.u16.u32");
    add<converted<double, float>>(table, "cvt.f64.f32");
    add<converted<float, double>>(table, "cvt.rn.f32.f64");
    add<converted<float, int32_t>>(table, "cvt.rn.f32.s32");
    add<converted<float, int64_t>>(table, "cvt.rn.f32.s64");
    add<converted<float, uint16_t>>(table, "cvt.rn.f32.u16");
    add<converted<double, int64_t>>(table, "cvt.rn.f64.s64");
    add<converted<double, uint64_t>>(table, "cvt.rn.f64.u64");
    add<whole_of>(table, "cvt.rzi.s64.f64");
    add<nearest_whole>(table, "cvt.rni.f64.f64");
    add<whole_part>(table, "cvt.rzi.f64.f64");
    add<saturated>(table, "cvt.sat.f32.f32");
    add<same<uint64_t>>(table, "cvta.to.global.u64");
    add<packed>(table, "mov.b64 {}"); /* into one, from two: read.cc */
    (*table)["mov.b64 {}="] = {unpack, 3};
}

} // namespace

void ptx::add_arithmetic(meanings *table) {
    add_whole<int16_t>(table, "s16");
    add_whole<int32_t>(table, "s32");
    add_whole<int64_t>(table, "s64");
    add_whole<uint16_t>(table, "u16");
    add_whole<uint32_t>(table, "u32");
    add_whole<uint64_t>(table, "u64");
    add<times_wide<int64_t, int32_t>>(table, "mul.wide.s32");
    add<times_wide<uint64_t, uint32_t>>(table, "mul.wide.u32");
    add_bits<uint16_t>(table, "b16");
    add_bits<uint32_t>(table, "b32");
    add_bits<uint64_t>(table, "b64");
    add<both<bool>>(table, "and.pred");
    add<either<bool>>(table, "or.pred");
    add<differing<bool>>(table, "xor.pred");
    add<negated>(table, "not.pred");
    add_fractions<float>(table, "f32");
    add_fractions<double>(table, "f64");
    add<fused_down>(table, "fma.rm.f32");
    add<power_of_two>(table, "ex2.approx.ftz.f32");
    add<rough_reciprocal>(table, "rcp.approx.ftz.f64");
    add_comparisons<int16_t>(table, "s16");
    add_comparisons<int32_t>(table, "s32");
    add_comparisons<int64_t>(table, "s64");
    add_comparisons<uint16_t>(table, "u16");
    add_comparisons<uint32_t>(table, "u32");
    add_comparisons<uint64_t>(table, "u64");
    add_comparisons<uint16_t>(table, "b16");
    add_comparisons<uint32_t>(table, "b32");
    add_comparisons<uint64_t>(table, "b64");
    add_comparisons<float>(table, "f32");
    add_comparisons<double>(table, "f64");
    for (const char *type : {"b16", "u16", "s16"}) add_copies<uint16_t>(table, type);
    for (const char *type : {"b32", "u32", "s32", "f32"}) add_copies<uint32_t>(table, type);
    for (const char *type : {"b64", "u64", "s64", "f64"}) add_copies<uint64_t>(table, type);
    add<same<bool>>(table, "mov.pred");
    add_conversions(table);
}
