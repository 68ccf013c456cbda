/* Runs the HVX instruction sequences that hexagon_nn's arithmetic is made of, on inputs made by a formula.
 *
 * Own program, freestanding: no C library, no vendor code. Which kernel uses which sequence was learnt from
 * XiaoMi/nnlib@df7ad3c (asm_src/gvconv2dbbb_d32_v60_h.S, asm_src/scalemem_d32.S, asm_src/quantize_h.S,
 * ops/src/op_add_d32.c, ops/src/op_avgpool_d32.c, src/quantize.c). How it is built and run: ../hexagon_hvx.py, which
 * makes the same inputs again, compares them, and writes the recordings.
 *
 * Output: records of a 16-byte name and 4 * N bytes (int32, little-endian). A name with a '/' at its end starts a
 * sequence and has no data. Every array has one number an element; parameters of a vector are repeated. */
#include <hexagon_types.h>
#include <hexagon_protos.h>
#include <hvx_hexagon_protos.h>

typedef signed char i8;
typedef unsigned char u8;
typedef short i16;
typedef unsigned short u16;
typedef int i32;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

enum { N = 64000, COLUMNS = 11, CHUNK = 128 };

static i32 column[COLUMNS][N];
static const char *label[COLUMNS];

/* Buffers that vectors are loaded from and stored to. */
static union { HVX_Vector v[4]; u8 b[512]; i16 h[256]; i32 w[128]; } in0, in1, in2, out0, out1;

/* ---- system calls ---- */

static long call(long number, long a, long b, long c) {
    register long r6 __asm__("r6") = number;
    register long r0 __asm__("r0") = a;
    register long r1 __asm__("r1") = b;
    register long r2 __asm__("r2") = c;
    __asm__ volatile("trap0(#1)" : "+r"(r0) : "r"(r6), "r"(r1), "r"(r2) : "memory");
    return r0;
}

static void put(const void *data, long length) {
    const char *at = data;
    while (length > 0) {
        long done = call(64, 1, (long)at, length);
        if (done <= 0) call(93, 1, 0, 0);
        at += done;
        length -= done;
    }
}

static void name16(const char *name, char last) {
    char text[16];
    int i = 0;
    for (; name[i] && i < 15; i++) text[i] = name[i];
    if (last) text[i++] = last;
    for (; i < 16; i++) text[i] = 0;
    put(text, 16);
}

/* Writes a sequence; columns without a label are unused. */
static void finish(const char *sequence) {
    name16(sequence, '/');
    for (int c = 0; c < COLUMNS; c++) {
        if (label[c]) {
            name16(label[c], 0);
            put(column[c], sizeof column[c]);
        }
        label[c] = 0;
    }
}

/* ---- the formula of the inputs: an LCG modulo 2^64, upper half; ../hexagon_hvx.py has it too ---- */

static u64 state;

static u32 next(void) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (u32)(state >> 32);
}

static const i32 ends[8] = {(i32)0x80000000, (i32)0x80000001, -0x40000000, -1, 1, 0x40000000, 0x7ffffffe, 0x7fffffff};
static const i32 ends16[8] = {-32768, -32767, -16384, -1, 1, 16384, 32766, 32767};

static i32 shl(i32 x, int s) { return (i32)((u32)x << s); }

/* A number halfway between two multiples of 2^s: every number is one for s = 0. */
static i32 halfway(i32 odd, int s) { return shl(2 * odd + 1, s ? s - 1 : 0); }

static i32 twice(i32 half) { return (i32)((u32)(half & 0xffff) * 0x10001u); }

/* (a * b) >> 31, rounded, saturated: the pair of instructions that requantizes everything. */
static HVX_Vector q31(HVX_Vector a, HVX_Vector b) {
    return Q6_Vw_vmpyoacc_VwVwVh_s1_rnd_sat_shift(Q6_Vw_vmpye_VwVuh(a, b), a, b);
}

static void seq_q31(void) {
    i32 *a = column[0], *b = column[1], *y = column[2];
    label[0] = "a", label[1] = "b", label[2] = "y";
    state = 1;
    for (int i = 0; i < N; i++) {
        u32 r = next(), s = next();
        int k = 8 + (s >> 28);
        switch (i & 7) {
        case 0: a[i] = (i32)r, b[i] = (i32)s; break;
        case 1: a[i] = shl(((i32)r >> (31 - k)) | 1, 30 - k), b[i] = 1 << k; break;                          /* tie */
        case 2: a[i] = shl(((i32)r >> (31 - k)) | 1, 30 - k) + (s & 1 ? 1 : -1), b[i] = 1 << k; break; /* beside one */
        case 3: a[i] = (i32)r >> 12, b[i] = (i32)(0x40000000u | s >> 2); break;
        case 4: a[i] = shl((i32)r >> 16, s & 7), b[i] = (i32)(0x40000000u | s >> 2); break;
        case 5: a[i] = shl(((i32)r >> 16) | 1, 15), b[i] = (i32)((s >> 17 | 1) << 15); break;                /* tie */
        case 6: a[i] = ends[r >> 29], b[i] = ends[s >> 29]; break;
        case 7: a[i] = (i32)r >> 24, b[i] = (i32)(0x40000000u | s >> 2); break;
        }
    }
    for (int i = 0; i < N; i += 32) {
        for (int j = 0; j < 32; j++) in0.w[j] = a[i + j], in1.w[j] = b[i + j];
        out0.v[0] = q31(in0.v[0], in1.v[0]);
        for (int j = 0; j < 32; j++) y[i + j] = out0.w[j];
    }
    finish("q31");
}

/* The end of a convolution: acc << shift, Q31, pack to bytes; once with saturating packs, once with vpacke first. */
static void seq_conv(void) {
    i32 *acc = column[0], *shift = column[1], *recip = column[2], *y = column[3], *wrapped = column[4];
    label[0] = "acc", label[1] = "shift", label[2] = "recip", label[3] = "y", label[4] = "y_vpacke";
    state = 2;
    for (int i = 0; i < N; i += CHUNK) {
        int sh = (int)(next() >> 29);
        for (int j = i; j < i + CHUNK; j++) {
            u32 r = next(), s = next();
            shift[j] = sh;
            switch (j & 3) {
            case 0: acc[j] = ((i32)r >> 22) >> sh, recip[j] = (i32)(0x40000000u | s >> 2); break;
            case 1: acc[j] = (i32)r >> 22, recip[j] = 1 << (30 - sh); break; /* a tie where acc is odd */
            case 2: acc[j] = ((i32)r >> 14) >> sh, recip[j] = (i32)(s >> 8 | 1); break;
            case 3: acc[j] = (i32)r, recip[j] = (i32)(0x40000000u | s >> 2); break; /* the shift wraps */
            }
        }
        for (int j = 0; j < CHUNK; j++) in0.w[j] = acc[i + j], in1.w[j] = recip[i + j];
        HVX_Vector x[4];
        for (int k = 0; k < 4; k++) x[k] = q31(Q6_Vw_vasl_VwR(in0.v[k], sh), in1.v[k]);
        out0.v[0] = Q6_Vub_vpack_VhVh_sat(Q6_Vh_vpack_VwVw_sat(x[3], x[2]), Q6_Vh_vpack_VwVw_sat(x[1], x[0]));
        out1.v[0] = Q6_Vub_vpack_VhVh_sat(Q6_Vh_vpacke_VwVw(x[3], x[2]), Q6_Vh_vpacke_VwVw(x[1], x[0]));
        for (int j = 0; j < CHUNK; j++) y[i + j] = out0.b[j], wrapped[i + j] = out1.b[j];
    }
    finish("conv-epilogue");
}

/* vasr(h, h, R):rnd:sat to unsigned bytes. */
static void seq_vasr_h(void) {
    i32 *x = column[0], *shift = column[1], *y = column[2];
    label[0] = "x", label[1] = "shift", label[2] = "y";
    state = 3;
    for (int i = 0; i < N; i += CHUNK) {
        int s = (i / CHUNK) & 7;
        for (int j = i; j < i + CHUNK; j++) {
            u32 r = next();
            i32 tie = halfway((i32)(r >> 22) - 256, s);
            shift[j] = s;
            switch (j & 3) {
            case 0: x[j] = (i16)(r >> 16); break;
            case 1: x[j] = (i16)tie; break;
            case 2: x[j] = (i16)(tie + (r & 1 ? 1 : -1)); break;
            case 3: x[j] = (i16)(r >> (24 - s)); break; /* in range */
            }
        }
        for (int j = 0; j < 64; j++) in0.h[j] = (i16)x[i + 2 * j], in1.h[j] = (i16)x[i + 2 * j + 1];
        out0.v[0] = Q6_Vub_vasr_VhVhR_rnd_sat(in1.v[0], in0.v[0], s); /* even bytes from the second operand */
        for (int j = 0; j < CHUNK; j++) y[i + j] = out0.b[j];
    }
    finish("vasr-h-ub");
}

/* vasr(w, w, R):rnd:sat to halfwords. */
static void seq_vasr_w(void) {
    i32 *x = column[0], *shift = column[1], *y = column[2];
    label[0] = "x", label[1] = "shift", label[2] = "y";
    state = 4;
    for (int i = 0; i < N; i += 64) {
        int s = (i / 64) & 15;
        for (int j = i; j < i + 64; j++) {
            u32 r = next();
            i32 tie = halfway((i32)r >> 15, s);
            shift[j] = s;
            switch (j & 3) {
            case 0: x[j] = j & 4 ? ends[r >> 29] : (i32)r; break;
            case 1: x[j] = tie; break;
            case 2: x[j] = (i32)((u32)tie + (r & 1 ? 1u : ~0u)); break;
            case 3: x[j] = (i32)r >> (16 - s); break; /* in range */
            }
        }
        for (int j = 0; j < 32; j++) in0.w[j] = x[i + 2 * j], in1.w[j] = x[i + 2 * j + 1];
        out0.v[0] = Q6_Vh_vasr_VwVwR_rnd_sat(in1.v[0], in0.v[0], s);
        for (int j = 0; j < 64; j++) y[i + j] = out0.h[j];
    }
    finish("vasr-w-h");
}

/* vmpy(h, R.h):<<1:rnd:sat. Even lanes use the register's low half, odd lanes the high one. */
static void seq_vmpy(void) {
    i32 *a = column[0], *b = column[1], *y = column[2];
    label[0] = "a", label[1] = "b", label[2] = "y";
    state = 5;
    for (int i = 0; i < N; i += 64) {
        int kind = (i / 64) & 3;
        i32 gain[2];
        int k[2];
        for (int e = 0; e < 2; e++) {
            u32 r = next();
            k[e] = (int)(r >> 28);
            gain[e] = kind == 0   ? (i16)(r >> 16)
                      : kind == 1 ? (i16)(1 << k[e])
                      : kind == 2 ? (i32)(0x4000 | r >> 18)
                                  : ends16[r >> 29];
        }
        for (int j = i; j < i + 64; j++) {
            u32 r = next();
            int e = j & 1;
            b[j] = gain[e];
            switch ((j >> 1) & 3) {
            case 0: a[j] = (i16)(r >> 16); break;
            case 1: a[j] = (i32)r >> 23; break;
            case 2: a[j] = kind == 1 && k[e] < 15 ? (i16)(((i32)(r >> 16) | 1) << (14 - k[e])) /* tie */
                                                  : (i16)((r >> 16) | 0x4000); break;
            case 3: a[j] = ends16[r >> 29]; break;
            }
        }
        for (int j = 0; j < 64; j++) in0.h[j] = (i16)a[i + j];
        i32 both = (i32)(((u32)gain[1] & 0xffff) << 16 | ((u32)gain[0] & 0xffff));
        out0.v[0] = Q6_Vh_vmpy_VhRh_s1_rnd_sat(in0.v[0], both);
        for (int j = 0; j < 64; j++) y[i + j] = out0.h[j];
    }
    finish("vmpy-h-rh");
}

/* vpack(w):sat, vpack(h):sat; and vpacke(w), vpack(h):sat, which keeps only the low halfword. */
static void seq_pack(void) {
    i32 *x = column[0], *y = column[1], *wrapped = column[2];
    label[0] = "x", label[1] = "y", label[2] = "y_vpacke";
    state = 6;
    for (int i = 0; i < N; i++) {
        u32 r = next();
        i32 base = shl((i32)(r >> 28) - 8, 14); /* multiples of 2^14, -2^17 .. 7 * 2^14 */
        switch (i & 3) {
        case 0: x[i] = (i32)r; break;
        case 1: x[i] = (i32)r >> 15; break;
        case 2: x[i] = (i32)r >> 22; break;
        case 3: x[i] = base + (i32)(r & 3) - 2 + (r & 4 ? 256 : 0); break;
        }
    }
    for (int i = 0; i < N; i += CHUNK) {
        for (int j = 0; j < CHUNK; j++) in0.w[j] = x[i + j];
        out0.v[0] = Q6_Vub_vpack_VhVh_sat(Q6_Vh_vpack_VwVw_sat(in0.v[3], in0.v[2]), Q6_Vh_vpack_VwVw_sat(in0.v[1], in0.v[0]));
        out1.v[0] = Q6_Vub_vpack_VhVh_sat(Q6_Vh_vpacke_VwVw(in0.v[3], in0.v[2]), Q6_Vh_vpacke_VwVw(in0.v[1], in0.v[0]));
        for (int j = 0; j < CHUNK; j++) y[i + j] = out0.b[j], wrapped[i + j] = out1.b[j];
    }
    finish("pack");
}

/* vasl(w, R) and vasl(w, w). */
static void seq_vasl(void) {
    i32 *x = column[0], *shift = column[1], *y = column[2], *z = column[3];
    label[0] = "x", label[1] = "shift", label[2] = "y", label[3] = "y_vector";
    state = 7;
    for (int i = 0; i < N; i += 32) {
        int s = (i / 32) & 31;
        for (int j = i; j < i + 32; j++) {
            u32 r = next();
            shift[j] = s;
            x[j] = j & 1 ? (i32)r >> s : (i32)r; /* odd elements stay in range or just leave it */
            if ((j & 3) == 3) x[j] = (i32)r >> (s ? s - 1 : 0);
        }
        for (int j = 0; j < 32; j++) in0.w[j] = x[i + j], in1.w[j] = s;
        out0.v[0] = Q6_Vw_vasl_VwR(in0.v[0], s);
        out1.v[0] = Q6_Vw_vasl_VwVw(in0.v[0], in1.v[0]);
        for (int j = 0; j < 32; j++) y[i + j] = out0.w[j], z[i + j] = out1.w[j];
    }
    finish("vasl");
}

/* Four steps of uw += vrmpy(ub, ub), four products each; with a register (convolution) and with a vector. */
static void seq_vrmpy(void) {
    label[0] = "acc", label[9] = "y", label[10] = "y_vector";
    static const char *names[8] = {"x0", "x1", "x2", "x3", "w0", "w1", "w2", "w3"};
    for (int k = 0; k < 8; k++) label[1 + k] = names[k];
    state = 8;
    for (int i = 0; i < N; i += 32) {
        u32 w[4];
        for (int k = 0; k < 4; k++) w[k] = next() | ((i / 32) & 1 ? 0x80808080u : 0);
        for (int j = i; j < i + 32; j++) {
            u32 r = next();
            column[0][j] = (i32)((j & 3) == 0 ? 0 : (j & 3) == 1 ? r : (j & 3) == 2 ? 0x7fff0000u | r >> 16 : 0xffff0000u | r >> 16);
            for (int k = 0; k < 4; k++) {
                column[1 + k][j] = (i32)(next() | (j & 4 ? 0xc0c0c0c0u : 0));
                column[5 + k][j] = (i32)w[k];
            }
        }
        for (int j = 0; j < 32; j++) in0.w[j] = column[0][i + j];
        HVX_Vector acc = in0.v[0], acc2 = in0.v[0];
        for (int k = 0; k < 4; k++) {
            for (int j = 0; j < 32; j++) in1.w[j] = column[1 + k][i + j], in2.w[j] = (i32)w[k];
            acc = Q6_Vuw_vrmpyacc_VuwVubRub(acc, in1.v[0], (i32)w[k]);
            acc2 = Q6_Vuw_vrmpyacc_VuwVubVub(acc2, in1.v[0], in2.v[0]);
        }
        out0.v[0] = acc, out1.v[0] = acc2;
        for (int j = 0; j < 32; j++) column[9][i + j] = out0.w[j], column[10][i + j] = out1.w[j];
    }
    finish("vrmpy");
}

/* Add and subtract of two byte tensors: two pipelines for the first stage, one for the second. */
static void seq_add(void) {
    i32 *a = column[0], *b = column[1], *as = column[2], *bs = column[3], *offset = column[4], *rsh = column[5];
    i32 *y = column[6], *z = column[7];
    static const char *names[8] = {"a", "b", "a_scale", "b_scale", "offset", "shift", "y", "y_broadcast"};
    for (int k = 0; k < 8; k++) label[k] = names[k];
    state = 9;
    for (int i = 0; i < N; i += CHUNK) {
        int v = i / CHUNK, s = v & 7, kind = (v >> 3) & 3;
        u32 r = next(), t = next(), u = next();
        i32 sa = 1 + (i32)(r >> 19), sb = 1 + (i32)(t >> 19); /* 1 .. 8192; their sum stays within 14 bits */
        if (kind == 1) sa = 256 << (r >> 30), sb = 256 << (t >> 30);
        if (kind == 2) sb = -sb;
        if (kind == 3) sa = 128 * (1 + 2 * (i32)(r >> 28)), sb = 128 * (1 + 2 * (i32)(t >> 28));
        i32 zero = (i32)(u >> 24), za = (i32)(u >> 16 & 255), zb = (i32)(u >> 8 & 255);
        i32 off = shl(zero, s) - ((za * sa + zb * sb) >> 8);
        if (kind == 2 && (u & 7) == 0) off = u & 8 ? 32000 : -32000; /* so that saturation and wrapping differ */
        off = off > 32767 ? 32767 : off < -32768 ? -32768 : off;
        for (int j = i; j < i + CHUNK; j++) {
            u32 q = next();
            a[j] = (i32)(q >> 24), b[j] = (i32)(q >> 16 & 255);
            as[j] = sa, bs[j] = sb, offset[j] = off, rsh[j] = s;
        }
        for (int j = 0; j < CHUNK; j++) in0.b[j] = (u8)a[i + j], in1.b[j] = (u8)b[i + j];
        i32 low = twice((sa & 0x7f) | (sb & 0x7f) << 8), high = twice((sa >> 7 & 0xff) | (i32)((u32)(sb >> 7 & 0xff) << 8));
        HVX_VectorPair both = Q6_W_vcombine_VV(in1.v[0], in0.v[0]);
        HVX_VectorPair h = Q6_Wh_vmpa_WubRb(both, high), l = Q6_Wh_vmpa_WubRb(both, low);
        HVX_Vector even = Q6_Vh_vavg_VhVh(Q6_V_lo_W(h), Q6_Vuh_vlsr_VuhR(Q6_V_lo_W(l), 7));
        HVX_Vector odd = Q6_Vh_vavg_VhVh(Q6_V_hi_W(h), Q6_Vuh_vlsr_VuhR(Q6_V_hi_W(l), 7));
        HVX_Vector voff = Q6_V_vsplat_R(twice(off));
        out0.v[0] = Q6_Vub_vasr_VhVhR_rnd_sat(Q6_Vh_vadd_VhVh_sat(odd, voff), Q6_Vh_vadd_VhVh_sat(even, voff), s);
        /* the pipeline of a broadcast operand: 32-bit products, their sum >> 8 */
        HVX_VectorPair xa = Q6_Wb_vshuffoe_VbVb(Q6_V_vzero(), in0.v[0]), xb = Q6_Wb_vshuffoe_VbVb(Q6_V_vzero(), in1.v[0]);
        HVX_VectorPair p = Q6_Ww_vadd_WwWw(Q6_Ww_vmpy_VhRh(Q6_V_lo_W(xa), twice(sa)), Q6_Ww_vmpy_VhRh(Q6_V_lo_W(xb), twice(sb)));
        HVX_VectorPair q = Q6_Ww_vadd_WwWw(Q6_Ww_vmpy_VhRh(Q6_V_hi_W(xa), twice(sa)), Q6_Ww_vmpy_VhRh(Q6_V_hi_W(xb), twice(sb)));
        even = Q6_Vh_vasr_VwVwR(Q6_V_hi_W(p), Q6_V_lo_W(p), 8);
        odd = Q6_Vh_vasr_VwVwR(Q6_V_hi_W(q), Q6_V_lo_W(q), 8);
        out1.v[0] = Q6_Vub_vasr_VhVhR_rnd_sat(Q6_Vh_vadd_VhVh_sat(odd, voff), Q6_Vh_vadd_VhVh_sat(even, voff), s);
        for (int j = 0; j < CHUNK; j++) y[i + j] = out0.b[j], z[i + j] = out1.b[j];
    }
    finish("add");
}

/* floor(numerator / divisor) without a library. */
static u32 divide(u32 numerator, u32 divisor) {
    u32 quotient = 0, rest = 0;
    for (int bit = 31; bit >= 0; bit--) {
        rest = rest << 1 | (numerator >> bit & 1);
        quotient <<= 1;
        if (rest >= divisor) rest -= divisor, quotient |= 1;
    }
    return quotient;
}

/* Average pool: window sum * 256, three rounded steps. */
static void seq_average(void) {
    i32 *n = column[0], *sum = column[1], *rsh = column[2], *mant = column[3], *y = column[4];
    label[0] = "count", label[1] = "sum256", label[2] = "shift", label[3] = "mantissa", label[4] = "y";
    state = 10;
    for (int i = 0; i < N; i += CHUNK) {
        int v = i / CHUNK;
        i32 count = (1 + ((v >> 1) & 127)) * (v & 1 ? 9 : 1); /* 1 .. 128, and their ninefold */
        int s = 1;
        while ((1 << (s - 1)) < count) s++; /* ceil(log2(count)) + 1 */
        i32 m = (i32)((divide(1u << (14 + s), (u32)count) + 1) >> 1);
        for (int j = i; j < i + CHUNK; j++) {
            u32 r = next();
            i32 whole = (i32)(r >> 24), total = 0;
            i32 half = whole * count + (count >> 1); /* a tie where count is even */
            switch (j & 3) {
            case 0: total = (i32)((u64)r * (u32)(255 * count + 1) >> 32); break;
            case 1: total = half; break;
            case 2: total = half + (r & 1 ? 1 : -1); break;
            case 3: total = r & 1 ? whole * count : (i32)(r >> 16) - 4096; break; /* also sums that no window has */
            }
            n[j] = count, sum[j] = total * 256, rsh[j] = s, mant[j] = m;
        }
        for (int j = 0; j < 32; j++)
            for (int k = 0; k < 4; k++) in0.w[32 * k + j] = sum[i + 4 * j + k];
        /* words k = 0 2 1 3 give halfwords (0, 2, 0, 2 ..) and (1, 3, ..), then bytes 0 1 2 3 */
        HVX_Vector t0 = Q6_Vh_vasr_VwVwR_rnd_sat(in0.v[2], in0.v[0], s), t1 = Q6_Vh_vasr_VwVwR_rnd_sat(in0.v[3], in0.v[1], s);
        t0 = Q6_Vh_vmpy_VhRh_s1_rnd_sat(t0, twice(m));
        t1 = Q6_Vh_vmpy_VhRh_s1_rnd_sat(t1, twice(m));
        out0.v[0] = Q6_Vub_vasr_VhVhR_rnd_sat(t1, t0, 6);
        for (int j = 0; j < CHUNK; j++) y[i + j] = out0.b[j];
    }
    finish("average");
}

/* Requantize bytes to bytes: gain up to 1, gain above 1, gain about 1. */
static void seq_8to8(void) {
    i32 *x = column[0], *path = column[1], *gain = column[2], *rsh = column[3], *zin = column[4], *zout = column[5], *y = column[6];
    static const char *names[7] = {"x", "path", "gain", "shift", "zero_in", "zero_out", "y"};
    for (int k = 0; k < 7; k++) label[k] = names[k];
    state = 11;
    for (int i = 0; i < N; i += CHUNK) {
        int v = i / CHUNK, p = (v & 3) < 2 ? 0 : (v & 3) - 1; /* 0: up to 1 (twice as often), 1: above 1, 2: about 1 */
        u32 r = next(), t = next();
        int s = p == 1 ? 14 - (int)(t >> 30) : 0;
        i32 g = p == 2 ? 0 : p == 1 ? (i32)(0x4000 | r >> 18) : (i32)(r >> 17);
        if (v & 4) g = p == 2 ? 0 : p == 1 ? 0x4000 | 1 << (r >> 28 > 13 ? 13 : r >> 28) : 1 << (14 - (r >> 30));
        i32 z0 = (i32)(t & 255), z1 = (i32)(t >> 8 & 255);
        if (v & 8) z0 = t & 1 ? 255 : 0, z1 = t & 2 ? 255 : 0;
        for (int j = i; j < i + CHUNK; j++) {
            x[j] = (i32)(next() >> 24);
            path[j] = p, gain[j] = g, rsh[j] = s, zin[j] = z0, zout[j] = z1;
        }
        for (int j = 0; j < CHUNK; j++) in0.b[j] = (u8)x[i + j];
        HVX_VectorPair wide = Q6_Wuh_vunpack_Vub(in0.v[0]);
        HVX_Vector vi = Q6_V_vsplat_R(twice(z0)), vo = Q6_V_vsplat_R(twice(z1));
        if (p == 2) {
            HVX_Vector total = Q6_Vh_vsub_VhVh_sat(vo, vi);
            HVX_VectorPair moved = Q6_Wh_vadd_WhWh_sat(wide, Q6_W_vcombine_VV(total, total));
            out0.v[0] = Q6_Vub_vpack_VhVh_sat(Q6_V_hi_W(moved), Q6_V_lo_W(moved));
        } else {
            HVX_VectorPair d = Q6_Wh_vsub_WhWh(wide, Q6_W_vcombine_VV(vi, vi));
            HVX_Vector part[2];
            for (int k = 0; k < 2; k++) {
                HVX_Vector one = k ? Q6_V_hi_W(d) : Q6_V_lo_W(d);
                HVX_VectorPair w = Q6_Ww_vmpy_VhRh(one, twice(g));
                one = p == 0 ? Q6_Vh_vmpy_VhRh_s1_rnd_sat(one, twice(g)) : Q6_Vh_vasr_VwVwR_rnd_sat(Q6_V_hi_W(w), Q6_V_lo_W(w), s);
                part[k] = Q6_Vh_vadd_VhVh_sat(one, vo);
            }
            out0.v[0] = Q6_Vub_vpack_VhVh_sat(part[1], part[0]);
        }
        for (int j = 0; j < CHUNK; j++) y[i + j] = out0.b[j];
    }
    finish("requant-8to8");
}

/* Requantize words to bytes: offset added after the product (vectors; scalars) and offset subtracted before it. */
static void seq_32to8(void) {
    i32 *x = column[0], *gain = column[1], *zero = column[2], *before = column[3];
    i32 *y = column[4], *scalar = column[5], *first = column[6];
    static const char *names[7] = {"x", "gain", "zero", "offset_before", "y_after", "y_scalar", "y_before"};
    for (int k = 0; k < 7; k++) label[k] = names[k];
    state = 12;
    for (int i = 0; i < N; i += CHUNK) {
        int v = i / CHUNK, k = 20 + (v & 7);
        u32 r = next(), t = next();
        i32 g = v & 8 ? 1 << k : (i32)((1u << k) | r >> (32 - k)); /* 2^20 .. 2^28: gains of 2^-11 .. 2^-3 */
        i32 z = (i32)(t >> 24);
        i32 b = -shl(z, 31 - k); /* a zero point in units of the input, for a gain that is a power of two */
        for (int j = i; j < i + CHUNK; j++) {
            u32 q = next();
            i32 near = (i32)q >> (k - 9); /* about -512 .. 512 after the gain */
            switch (j & 3) {
            case 0: x[j] = near; break;
            case 1: x[j] = halfway((i32)q >> 22, 31 - k); break; /* a tie for a power of two */
            case 2: x[j] = halfway((i32)q >> 22, 31 - k) + (q & 1 ? 1 : -1); break;
            case 3: x[j] = q & 1 ? (i32)q : ends[q >> 29]; break;
            }
            gain[j] = g, zero[j] = z, before[j] = b;
        }
        for (int j = 0; j < CHUNK; j++) in0.w[j] = x[i + j];
        HVX_Vector vg = Q6_V_vsplat_R(g), vo = Q6_V_vsplat_R(twice(z)), vb = Q6_V_vsplat_R(b), p[4], q[4];
        for (int n = 0; n < 4; n++) p[n] = q31(in0.v[n], vg), q[n] = q31(Q6_Vw_vsub_VwVw_sat(in0.v[n], vb), vg);
        HVX_Vector p01 = Q6_Vh_vadd_VhVh_sat(Q6_Vh_vpack_VwVw_sat(p[1], p[0]), vo);
        HVX_Vector p23 = Q6_Vh_vadd_VhVh_sat(Q6_Vh_vpack_VwVw_sat(p[3], p[2]), vo);
        out0.v[0] = Q6_Vub_vpack_VhVh_sat(p23, p01);
        out1.v[0] = Q6_Vub_vpack_VhVh_sat(Q6_Vh_vpack_VwVw_sat(q[3], q[2]), Q6_Vh_vpack_VwVw_sat(q[1], q[0]));
        for (int j = 0; j < CHUNK; j++) {
            i32 one = Q6_R_add_RR_sat((i32)Q6_P_asrrnd_PI((i64)x[i + j] * g, 31), z);
            scalar[i + j] = one < 0 ? 0 : one > 255 ? 255 : one;
            y[i + j] = out0.b[j], first[i + j] = out1.b[j];
        }
    }
    finish("requant-32to8");
}

/* Concatenation's rescale: bytes times a 16-bit scale in two halves, an offset, >> 7. */
static void seq_concat(void) {
    i32 *x = column[0], *scale = column[1], *offset = column[2], *y = column[3];
    label[0] = "x", label[1] = "scale", label[2] = "offset", label[3] = "y";
    state = 13;
    for (int i = 0; i < N; i += CHUNK) {
        int v = i / CHUNK;
        u32 r = next(), t = next();
        i32 g = v & 1 ? (i32)(r >> 17) : 1 << (7 + (r >> 29)); /* 0 .. 32767, or 2^7 .. 2^14 */
        i32 o = (i16)(t >> 16);
        if (v & 2) o = (i32)(t >> 17);         /* 0 .. 32767 is 0 .. 255.99 */
        if ((v & 7) == 4) o = (i32)(t >> 25) * 128; /* whole numbers */
        for (int j = i; j < i + CHUNK; j++) {
            x[j] = (i32)(next() >> 24);
            scale[j] = g, offset[j] = o;
        }
        for (int j = 0; j < CHUNK; j++) in0.b[j] = (u8)x[i + j];
        u32 low = (u32)g & 255, high = (u32)g >> 8;
        HVX_VectorPair l = Q6_Wuh_vmpy_VubRub(in0.v[0], (i32)(low * 0x01010101u));
        HVX_VectorPair h = Q6_W_vcombine_VV(Q6_Vb_vshuffo_VbVb(Q6_V_vzero(), Q6_V_hi_W(l)), Q6_Vb_vshuffo_VbVb(Q6_V_vzero(), Q6_V_lo_W(l)));
        h = Q6_Wh_vmpyacc_WhVubRb(h, in0.v[0], (i32)(high * 0x01010101u));
        HVX_Vector vo = Q6_V_vsplat_R(twice(o));
        h = Q6_Wh_vadd_WhWh_sat(h, Q6_W_vcombine_VV(vo, vo));
        out0.v[0] = Q6_Vub_vasr_VhVhR_rnd_sat(Q6_V_hi_W(h), Q6_V_lo_W(h), 7);
        for (int j = 0; j < CHUNK; j++) y[i + j] = out0.b[j];
    }
    finish("concat");
}

__attribute__((noreturn, used)) static void run(void) {
    seq_q31();
    seq_conv();
    seq_vasr_h();
    seq_vasr_w();
    seq_vmpy();
    seq_pack();
    seq_vasl();
    seq_vrmpy();
    seq_add();
    seq_average();
    seq_8to8();
    seq_32to8();
    seq_concat();
    call(93, 0, 0, 0);
    __builtin_unreachable();
}

/* HVX spills need a stack that is aligned to a vector. */
__asm__(".globl _start\n_start:\n  r29 = and(r29, #-128)\n  jump run\n");
