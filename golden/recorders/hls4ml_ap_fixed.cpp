// Prints what Xilinx's ap_types headers (in the hls4ml wheel) do; run by hls4ml_ap_fixed.py.
// Output: little-endian int16 records on stdout, one kind of table per call (argv[1]).
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <utility>

#include "ap_fixed.h"

template <int W, int I, bool S, ap_q_mode Q = AP_TRN, ap_o_mode O = AP_WRAP> struct Pick {
    typedef ap_fixed<W, I, Q, O> type;
};
template <int W, int I, ap_q_mode Q, ap_o_mode O> struct Pick<W, I, false, Q, O> {
    typedef ap_ufixed<W, I, Q, O> type;
};

static void put(int v) {
    int16_t x = static_cast<int16_t>(v);
    fwrite(&x, sizeof x, 1, stdout);
}

// The bit pattern as an integer of the type's sign.
template <class T> static int code(const T &x, bool is_signed) {
    int v = 0;
    for (int b = 0; b < T::width; b++)
        v |= static_cast<int>(static_cast<bool>(x[b])) << b;
    if (is_signed && (v >> (T::width - 1)) & 1)
        v -= 1 << T::width;
    return v;
}

template <class T> static T pattern(int bits) {
    T x = 0;
    for (int b = 0; b < T::width; b++)
        x[b] = (bits >> b) & 1;
    return x;
}

template <class T, bool S> static void header(ap_q_mode q, ap_o_mode o) {
    put(T::width), put(T::iwidth), put(S), put(q), put(o);
}

// ---- one type into another, every code of the source
template <int W2, int I2, bool S2, int W, int I, bool S, ap_q_mode Q, ap_o_mode O> static void convert() {
    typedef typename Pick<W2, I2, S2>::type From;
    typedef typename Pick<W, I, S, Q, O>::type To;
    put(W2), put(I2), put(S2);
    header<To, S>(Q, O);
    for (int k = 0; k < (1 << W2); k++) {
        To y = pattern<From>(k);
        put(code(y, S));
    }
}

// ---- products of 8-bit codes summed into a narrow accumulator: bias, then one term at a time
static uint32_t seed = 1;
static int next_code() {
    seed = seed * 1664525u + 1013904223u;
    int v = static_cast<int>(seed >> 24) - 128;
    return (seed >> 12 & 3) ? v / 4 : v; // mostly small, some large
}

template <int W, int I, bool S, ap_q_mode Q, ap_o_mode O> static void accumulate() {
    typedef typename Pick<W, I, S, Q, O>::type Acc;
    typedef ap_fixed<6, 2> X;
    typedef ap_fixed<8, 2> Weight;
    typedef ap_fixed<8, 3> Bias;
    const int terms = 12, sequences = 8;
    for (int s = 0; s < sequences; s++) {
        header<Acc, S>(Q, O);
        int b = next_code() & 255;
        Acc acc = static_cast<Acc>(pattern<Bias>(b));
        put(b < 128 ? b : b - 256);
        put(code(acc, S));
        for (int t = 0; t < terms; t++) {
            int x = next_code() & 63, w = next_code() & 255;
            Acc term = pattern<X>(x) * pattern<Weight>(w);
            acc += term;
            put(x < 32 ? x : x - 64), put(w < 128 ? w : w - 256), put(code(term, S)), put(code(acc, S));
        }
    }
}

// ---- float64 into a type (the constructor that reads network inputs)
static double number(int k) {
    const double base[] = {0.0,    0.25,  0.5,      0.75,     1.0,   1.25,  1.5,  2.5,   3.5,  3.75,
                           3.9375, 4.0,   7.5,      7.75,     8.0,   15.75, 16.0, 31.75, 32.0, 100.375,
                           127.5,  128.5, 1.0e-300, 1.0e-3,   1e6,   1e12,  3e18, 1e30,  0.1,  0.3,
                           0.7,    2.2,   0.375,    0.015625, 0.125, 0.625};
    const int n = sizeof base / sizeof *base;
    double v = base[(k / 2) % n];
    switch (k / (2 * n)) {
    case 1: v = __builtin_nextafter(v, 1e308); break;
    case 2: v = __builtin_nextafter(v, -1e308); break;
    }
    return k & 1 ? -v : v;
}
static const int NUMBERS = 2 * 36 * 3;

template <int W, int I, bool S, ap_q_mode Q, ap_o_mode O> static void from_double() {
    typedef typename Pick<W, I, S, Q, O>::type To;
    header<To, S>(Q, O);
    for (int k = 0; k < NUMBERS; k++) {
        To y(number(k));
        put(code(y, S));
    }
}

// ---- all modes
#define EACH_O(Q, F, ...)                                                                                                   \
    F<__VA_ARGS__, Q, AP_SAT>();                                                                                            \
    F<__VA_ARGS__, Q, AP_SAT_ZERO>();                                                                                       \
    F<__VA_ARGS__, Q, AP_SAT_SYM>();                                                                                        \
    F<__VA_ARGS__, Q, AP_WRAP>();
#define EACH_Q(M, F, ...)                                                                                                   \
    M(AP_RND, F, __VA_ARGS__)                                                                                               \
    M(AP_RND_ZERO, F, __VA_ARGS__)                                                                                          \
    M(AP_RND_MIN_INF, F, __VA_ARGS__)                                                                                       \
    M(AP_RND_INF, F, __VA_ARGS__)                                                                                           \
    M(AP_RND_CONV, F, __VA_ARGS__)                                                                                          \
    M(AP_TRN, F, __VA_ARGS__)                                                                                               \
    M(AP_TRN_ZERO, F, __VA_ARGS__)
#define SM(Q, F, ...) F<__VA_ARGS__, Q, AP_WRAP_SM>();

// The headers end the program for ap_ufixed with AP_WRAP_SM, so it is asked of signed types only.
template <int W2, int I2, bool S2, int W, int I> static void convert_modes() {
    EACH_Q(EACH_O, convert, W2, I2, S2, W, I, true)
    EACH_Q(SM, convert, W2, I2, S2, W, I, true)
    EACH_Q(EACH_O, convert, W2, I2, S2, W, I, false)
}

// Destination of width W whose fraction is D bits shorter than the source's.
template <int W2, int I2, bool S2, int W, int... D> static void convert_shifts(std::integer_sequence<int, D...>) {
    (convert_modes<W2, I2, S2, W, W - (W2 - I2 - D)>(), ...);
}

template <int W2, int I2, bool S2, int... W, class Shifts> static void convert_widths(Shifts shifts) {
    (convert_shifts<W2, I2, S2, W>(shifts), ...);
}

template <int W, int I> static void accumulate_modes() {
    EACH_Q(EACH_O, accumulate, W, I, true)
    EACH_Q(SM, accumulate, W, I, true)
    EACH_Q(EACH_O, accumulate, W, I, false)
}

template <int W, int I> static void double_modes() {
    EACH_Q(EACH_O, from_double, W, I, true)
    EACH_Q(SM, from_double, W, I, true)
    EACH_Q(EACH_O, from_double, W, I, false)
}

int main(int argc, char **argv) {
    if (argc != 2)
        return 1;
    if (!strcmp(argv[1], "w8")) {
        typedef std::integer_sequence<int, -3, 0, 1, 3, 6, 9> Shifts;
        convert_widths<8, 5, true, 2, 4, 6>(Shifts());
        convert_widths<8, 5, false, 2, 4, 6>(Shifts());
        convert_widths<8, 5, true, 1>(std::integer_sequence<int, 0, 2, 7>());
        convert_widths<8, 5, false, 1>(std::integer_sequence<int, 2>());
        // from a type with negative integer bits, and from one with more integer bits than width
        convert_widths<8, -2, true, 4>(std::integer_sequence<int, 2, 8>());
        convert_widths<8, 11, false, 4>(std::integer_sequence<int, 2, 5>());
    } else if (!strcmp(argv[1], "w3")) {
        typedef std::integer_sequence<int, -7, -1, 1, 2, 4, 5> Shifts;
        convert_widths<3, 1, true, 2, 4>(Shifts());
        convert_widths<3, 4, false, 2, 4>(Shifts());
    } else if (!strcmp(argv[1], "w1")) {
        convert_widths<1, 1, true, 2>(std::integer_sequence<int, 0, 1, 3>());
        convert_widths<1, 0, false, 2>(std::integer_sequence<int, 0, 1, 3>());
    } else if (!strcmp(argv[1], "accumulate")) {
        accumulate_modes<6, 3>();
        accumulate_modes<8, 3>();
        accumulate_modes<8, 5>();
        accumulate_modes<5, 5>();
        accumulate_modes<10, 2>();
    } else if (!strcmp(argv[1], "double")) {
        double_modes<6, 3>();
        double_modes<8, 8>();
        double_modes<8, -1>();
        double_modes<4, 7>();
        double_modes<16, 6>();
        double_modes<1, 1>();
    } else if (!strcmp(argv[1], "numbers")) {
        for (int k = 0; k < NUMBERS; k++) {
            double v = number(k);
            fwrite(&v, sizeof v, 1, stdout);
        }
    } else
        return 1;
    return 0;
}
