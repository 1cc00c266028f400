/* Bytes to words and numbers to bytes, without a Python object per byte.
 *
 * Nothing here knows the protocol's state: each function looks at one run of bytes. None of them
 * reads past `end`. */
#ifndef PYRAFT_FAST_RESP_BYTES_H
#define PYRAFT_FAST_RESP_BYTES_H

#include <Python.h>
#include <stdint.h>
#include <string.h>

#define RESP_SMALL 1024 /* numbers below this have their text ready */
#define RESP_NAMES 256  /* command names remembered, a power of two */
#define RESP_NAME_BYTES 16

typedef struct {
    char text[7]; /* "1023\r\n" */
    unsigned char size;
} resp_small_number;

typedef struct {
    uint64_t low, high; /* the name, padded with zero bytes */
    Py_ssize_t size;
    PyObject *word;
} resp_known_name;

static resp_small_number resp_small[RESP_SMALL];
static resp_known_name resp_names[RESP_NAMES];

static void resp_fill_small(void) {
    for (int number = 0; number < RESP_SMALL; number++) {
        char digits[4];
        int count = 0, rest = number;
        do {
            digits[count++] = (char)('0' + rest % 10);
            rest /= 10;
        } while (rest);
        for (int i = 0; i < count; i++) resp_small[number].text[i] = digits[count - 1 - i];
        resp_small[number].text[count] = '\r';
        resp_small[number].text[count + 1] = '\n';
        resp_small[number].size = (unsigned char)(count + 2);
    }
}

/* Write `value`, CR and LF at `out` (23 bytes of room); the number of bytes written. */
static inline Py_ssize_t resp_put_number(char *out, long long value) {
    char digits[20];
    int count = 0;
    char *at = out;
    unsigned long long rest = (unsigned long long)value;
    if (value >= 0 && value < RESP_SMALL) {
        memcpy(out, resp_small[value].text, sizeof resp_small[value].text);
        return resp_small[value].size;
    }
    if (value < 0) {
        *at++ = '-';
        rest = 0 - rest;
    }
    do {
        digits[count++] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    while (count) *at++ = digits[--count];
    *at++ = '\r';
    *at++ = '\n';
    return at - out;
}

/* The common form of a length: one to nine digits, no leading zero, CR LF. Returns what follows
 * it, or NULL when it is anything else or not all there, which the caller must look into. */
static inline const char *resp_quick_length(const char *p, const char *end, Py_ssize_t *length) {
    Py_ssize_t value;
    const char *first = p;
    unsigned int digit;
    if (end - p < 3) return NULL;
    digit = (unsigned char)*p - (unsigned)'0';
    if (digit > 9) return NULL;
    value = digit;
    p++;
    while (p < end && (digit = (unsigned char)*p - (unsigned)'0') <= 9) {
        if (value == 0 || p - first >= 9) return NULL;
        value = value * 10 + digit;
        p++;
    }
    if (end - p < 2 || p[0] != '\r' || p[1] != '\n') return NULL;
    *length = value;
    return p + 2;
}

/* An integer as Redis reads it: no blank, no plus, no leading zero, 64 bit. 1 when it is one. */
static int resp_strict_number(const char *p, Py_ssize_t size, long long *number) {
    const char *end = p + size;
    int negative = 0;
    unsigned long long value = 0;
    const unsigned long long most = 9223372036854775807ull;
    if (size == 1 && *p == '0') {
        *number = 0;
        return 1;
    }
    if (p < end && *p == '-') {
        negative = 1;
        p++;
    }
    if (p == end || *p < '1' || *p > '9') return 0;
    for (; p < end; p++) {
        unsigned int digit = (unsigned char)*p - (unsigned)'0';
        if (digit > 9 || value > (most + (unsigned)negative - digit) / 10) return 0;
        value = value * 10 + digit;
    }
    *number = negative ? (long long)(0 - value) : (long long)value;
    return 1;
}

static inline int resp_is_ascii(const char *p, Py_ssize_t size) {
    const uint64_t high = 0x8080808080808080ull;
    uint64_t all = 0, part;
    uint32_t head, tail;
    if (size >= 8) {
        const char *last = p + size - 8;
        for (; p < last; p += 8) {
            memcpy(&part, p, 8);
            all |= part;
            if (all & high) return 0;
        }
        memcpy(&part, last, 8);
        return ((all | part) & high) == 0;
    }
    if (size >= 4) {
        memcpy(&head, p, 4);
        memcpy(&tail, p + size - 4, 4);
        return ((head | tail) & 0x80808080u) == 0;
    }
    while (size) all |= (unsigned char)p[--size];
    return (all & 0x80) == 0;
}

/* The str of some bytes: UTF-8, and every byte that is not becomes a lone surrogate. */
static inline PyObject *resp_word(const char *p, Py_ssize_t size) {
    PyObject *word;
    if (size > 1 && resp_is_ascii(p, size)) {
        word = PyUnicode_New(size, 127);
        if (word != NULL) memcpy(PyUnicode_1BYTE_DATA(word), p, (size_t)size);
        return word;
    }
    return PyUnicode_DecodeUTF8(p, size, "surrogateescape");
}

/* Like resp_word, for the first word of a command: few of them are different, and a str that was
 * seen before knows its hash already. What is remembered decides nothing. */
static inline PyObject *resp_name(const char *p, Py_ssize_t size) {
    uint64_t low = 0, high = 0;
    resp_known_name *known;
    PyObject *word;
    if (size < 2 || size > RESP_NAME_BYTES) return resp_word(p, size);
    if (size >= 8) {
        memcpy(&low, p, 8);
        memcpy(&high, p + 8, (size_t)(size - 8));
    } else {
        memcpy(&low, p, (size_t)size);
    }
    known = &resp_names[((low ^ high * 31) * 0x9E3779B97F4A7C15ull) >> 56];
    if (known->low == low && known->high == high && known->size == size) {
        Py_INCREF(known->word);
        return known->word;
    }
    word = resp_word(p, size);
    if (word != NULL) {
        PyObject *former = known->word;
        Py_INCREF(word);
        known->low = low;
        known->high = high;
        known->size = size;
        known->word = word;
        Py_XDECREF(former);
    }
    return word;
}

/* A list that says it is empty but has room for `room` items, so that it is whole at all times. */
static inline PyObject *resp_new_list(Py_ssize_t room) {
    PyObject *list = PyList_New(room);
    if (list != NULL) Py_SET_SIZE(list, 0);
    return list;
}

/* Append and take over the reference; -1 with the reference dropped when memory is short. */
static inline int resp_append(PyObject *list, PyObject *item) {
    PyListObject *self = (PyListObject *)list;
    Py_ssize_t size = Py_SIZE(list);
    int result;
    if (size < self->allocated) {
        self->ob_item[size] = item;
        Py_SET_SIZE(list, size + 1);
        return 0;
    }
    result = PyList_Append(list, item);
    Py_DECREF(item);
    return result;
}

/* The text of a str that is pure ASCII, or NULL. */
static inline const char *resp_ascii_text(PyObject *text, Py_ssize_t *size) {
    if (PyUnicode_IS_COMPACT_ASCII(text)) {
        *size = PyUnicode_GET_LENGTH(text);
        return (const char *)PyUnicode_1BYTE_DATA(text);
    }
    return NULL;
}

/* Make a bytearray `size` bytes longer; where the new bytes begin, or NULL with an error set. */
static inline char *resp_extend(PyObject *array, Py_ssize_t size) {
    Py_ssize_t old = PyByteArray_GET_SIZE(array);
    if (size > PY_SSIZE_T_MAX - old) {
        PyErr_NoMemory();
        return NULL;
    }
    if (PyByteArray_Resize(array, old + size) < 0) return NULL;
    return PyByteArray_AS_STRING(array) + old;
}

static inline int resp_is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static inline int resp_hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* One escape of a double-quoted word; `p` stands on the backslash and at least one byte follows.
 * Returns the last byte used. */
static const char *resp_escape(const char *p, const char *end, char *out) {
    if (p[1] == 'x' && end - p > 3 && resp_hex(p[2]) >= 0 && resp_hex(p[3]) >= 0) {
        *out = (char)(resp_hex(p[2]) * 16 + resp_hex(p[3]));
        return p + 3;
    }
    switch (p[1]) {
        case 'n': *out = '\n'; break;
        case 'r': *out = '\r'; break;
        case 't': *out = '\t'; break;
        case 'b': *out = '\b'; break;
        case 'a': *out = '\a'; break;
        default: *out = p[1]; break;
    }
    return p + 1;
}

/* The next word of an inline command, unquoted into `out` (never longer than its source).
 * 1 a word, 0 the line has no more, -1 quotes that do not close or run into the next word. */
static int resp_split_word(const char **at, const char *end, char *out, Py_ssize_t *size) {
    const char *p = *at;
    char *first = out;
    char quote = 0;
    while (p < end && resp_is_space(*p)) p++;
    if (p == end) {
        *at = p;
        return 0;
    }
    for (;; p++) {
        if (p == end) {
            if (quote) return -1;
            break;
        }
        if (!quote) {
            if (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t') break;
            if (*p == '"' || *p == '\'')
                quote = *p;
            else
                *out++ = *p;
        } else if (*p == quote) {
            if (p + 1 < end && !resp_is_space(p[1])) return -1;
            p++;
            break;
        } else if (*p == '\\' && quote == '"' && p + 1 < end) {
            p = resp_escape(p, end, out++);
        } else if (*p == '\\' && quote == '\'' && p + 1 < end && p[1] == '\'') {
            *out++ = '\'';
            p++;
        } else {
            *out++ = *p;
        }
    }
    *at = p;
    *size = out - first;
    return 1;
}

#endif
