"""Products of small matrices on a processor, in its widest registers, for numba.

Compilers make products of small matrices from plain loops at a tenth of what a processor
can, and a call of BLAS costs as much as the product. So the inner loops are written here
in LLVM's own terms: a tile of the result stays in registers.

All matrices are two-dimensional and C-contiguous. What vectors run along is padded with
zeros to whole vectors, see :func:`padded`.
"""

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic

# Numbers of NumPy, since functions are compiled anew for every constant of Python.
NO, YES = np.intp(0), np.intp(1)
BLOCK = np.intp(4)  # rows that are exchanged together in an inversion
DEPTH = 256  # rows of the second matrix that are read for all rows of the first
#: Sums may be taken in any order, but always in the same.
ANY_ORDER = {"reassoc", "contract", "nsz"}
INDEX = types.intp


def register_bytes():
    """Width of the processor's vector registers."""
    features = llvm.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx2") else 16


BYTES = register_bytes()


class Builder:
    """What the tiles are built from: vectors of one dtype, and their addresses."""

    def __init__(self, context, builder, dtype):
        self.context, self.builder = context, builder
        self.scalar = context.get_value_type(dtype)
        self.itemsize = dtype.bitwidth // 8
        self.length = BYTES // self.itemsize
        self.vector = ir.VectorType(self.scalar, self.length)
        self.zero = ir.Constant(self.vector, None)

    def data(self, array_type, array):
        """Address of the first number of an array."""
        return self.context.make_array(array_type)(self.context, self.builder, array).data

    def index(self, start, *terms):
        """``start`` plus the products of pairs of an index and a number."""
        for index, times in terms:
            constant = ir.Constant(index.type, times)
            start = self.builder.add(start, self.builder.mul(index, constant))
        return start

    def next_vectors(self, start, number):
        """List the indices of vectors that follow each other."""
        return [
            self.builder.add(start, ir.Constant(start.type, j * self.length))
            for j in range(number)
        ]

    def pointer(self, data, index):
        """Address of the vector that begins at an index."""
        place = self.builder.gep(data, [index])
        return self.builder.bitcast(place, self.vector.as_pointer())

    def load(self, data, index):
        """Read a vector, at any address."""
        vector = self.builder.load(self.pointer(data, index))
        vector.align = self.itemsize
        return vector

    def store(self, vector, data, index):
        """Write a vector, at any address."""
        self.builder.store(vector, self.pointer(data, index)).align = self.itemsize

    def repeated(self, data, index):
        """Read a number into all places of a vector."""
        number = self.builder.load(self.builder.gep(data, [index]))
        first = ir.Constant(ir.IntType(32), 0)
        empty = ir.Constant(self.vector, ir.Undefined)
        one = self.builder.insert_element(empty, number, first)
        mask = ir.Constant(ir.VectorType(ir.IntType(32), self.length), None)
        return self.builder.shuffle_vector(one, empty, mask)

    def intrinsic(self, name, result, arguments):
        """Call an intrinsic function of LLVM for vectors of this kind."""
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        suffix = f"v{self.length}f{8 * self.itemsize}"
        function = cgutils.get_or_insert_function(
            self.builder.module, kind, f"llvm.{name}.{suffix}"
        )
        return self.builder.call(function, arguments)

    def add_product(self, a, b, place):
        """Add the product of two vectors to the one in a place."""
        total = self.intrinsic("fma", self.vector, [a, b, self.builder.load(place)])
        self.builder.store(total, place)

    def total(self, vector):
        """Sum of the numbers of a vector, by halves."""
        while vector.type.count > 1:
            half = vector.type.count // 2
            kind = ir.VectorType(ir.IntType(32), half)
            empty = ir.Constant(vector.type, ir.Undefined)
            low, high = (
                self.builder.shuffle_vector(
                    vector, empty, ir.Constant(kind, list(range(first, first + half)))
                )
                for first in (0, half)
            )
            vector = self.builder.fadd(low, high)
        return self.builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))

    def places(self, *counts):
        """Make registers for a tile, as nested lists."""
        if not counts:
            return cgutils.alloca_once(self.builder, self.vector)
        return [self.places(*counts[1:]) for _ in range(counts[0])]


def product_tile(n_rows, n_vectors):
    """Make a function for a tile of ``C = beta C + A B`` of so many rows and vectors.

    Its arguments are the arrays, each with the index where its part begins; the steps in A
    from row to row and from column to column; the row lengths of B and C; the number of
    columns of A; and beta, which is 0 or 1.
    """

    @intrinsic
    def tile(
        typing, A, a, row_step, column_step, B, b, b_length, C, c, c_length, depth, beta
    ):
        def code(context, builder, signature, arguments):
            A, a, row_step, column_step, B, b, b_length, C, c, c_length, depth, beta = (
                arguments
            )
            make = Builder(context, builder, signature.args[0].dtype)
            A, B, C = (make.data(signature.args[i], X) for i, X in ((0, A), (4, B), (7, C)))
            sums = make.places(n_rows, n_vectors)
            rows = [make.index(c, (c_length, i)) for i in range(n_rows)]
            results = [make.next_vectors(row, n_vectors) for row in rows]
            fresh = builder.icmp_signed("==", beta, ir.Constant(beta.type, 0))
            with builder.if_else(fresh) as (begin, go_on):
                with begin:
                    for row in sums:
                        for place in row:
                            builder.store(make.zero, place)
                with go_on:
                    for row, own in zip(sums, results, strict=True):
                        for place, index in zip(row, own, strict=True):
                            builder.store(make.load(C, index), place)
            with cgutils.for_range(builder, depth) as loop:
                start = builder.add(b, builder.mul(loop.index, b_length))
                vectors = [make.load(B, i) for i in make.next_vectors(start, n_vectors)]
                column = builder.add(a, builder.mul(loop.index, column_step))
                for i, row in enumerate(sums):
                    number = make.repeated(A, make.index(column, (row_step, i)))
                    for vector, place in zip(vectors, row, strict=True):
                        make.add_product(number, vector, place)
            for row, own in zip(sums, results, strict=True):
                for place, index in zip(row, own, strict=True):
                    make.store(builder.load(place), C, index)
            return context.get_dummy_value()

        indices = [INDEX] * 3
        kinds = (A, *indices, B, *indices[:2], C, *indices[:2], INDEX, INDEX)
        return types.void(*kinds), code

    return tile


def inner_product_tile(n_rows, n_columns):
    """Make a function for a tile of ``C = A B'``, of so many rows and columns.

    Its arguments are the arrays, each with the index where its part begins and its row
    length, and the number of columns of A and B, whole vectors.
    """

    @intrinsic
    def tile(typing, A, a, a_length, B, b, b_length, C, c, c_length, depth):
        def code(context, builder, signature, arguments):
            A, a, a_length, B, b, b_length, C, c, c_length, depth = arguments
            make = Builder(context, builder, signature.args[0].dtype)
            A, B, C = (make.data(signature.args[i], X) for i, X in ((0, A), (3, B), (6, C)))
            sums = make.places(n_rows, n_columns)
            for row in sums:
                for place in row:
                    builder.store(make.zero, place)
            step = ir.Constant(depth.type, make.length)
            zero = ir.Constant(depth.type, 0)
            with cgutils.for_range_slice(builder, zero, depth, step) as (index, _):
                left = [
                    make.load(A, make.index(builder.add(a, index), (a_length, i)))
                    for i in range(n_rows)
                ]
                right = [
                    make.load(B, make.index(builder.add(b, index), (b_length, j)))
                    for j in range(n_columns)
                ]
                for vector, row in zip(left, sums, strict=True):
                    for other, place in zip(right, row, strict=True):
                        make.add_product(vector, other, place)
            for i, row in enumerate(sums):
                for j, place in enumerate(row):
                    number = make.total(builder.load(place))
                    index = make.index(c, (c_length, i), (ir.Constant(c.type, 1), j))
                    builder.store(number, builder.gep(C, [index]))
            return context.get_dummy_value()

        return types.void(A, INDEX, INDEX, B, INDEX, INDEX, C, INDEX, INDEX, INDEX), code

    return tile


tile_6_4, tile_4_4, tile_2_4, tile_1_4 = (product_tile(n, 4) for n in (6, 4, 2, 1))
tile_6_1, tile_1_1 = product_tile(6, 1), product_tile(1, 1)
inner_4_4, inner_4_1, inner_1_1 = (
    inner_product_tile(*shape) for shape in ((4, 4), (4, 1), (1, 1))
)


@intrinsic
def apart(typing):
    """Keep the function that calls this from being copied into those that call it.

    Tiles are long, and compilers copy what they are called from wherever they can.
    """

    def code(context, builder, signature, arguments):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), code


@njit(nogil=True)
def padded(size, itemsize):
    """Size up to whole vectors of numbers of so many bytes."""
    length = BYTES // itemsize
    return (size + length - 1) // length * length


@njit(nogil=True)
def zeros(n_rows, n_columns, like):
    """Matrix of zeros whose rows begin where vectors do, of the dtype of an array."""
    row = padded(n_columns, like.itemsize)
    length = BYTES // like.itemsize
    numbers = np.zeros(n_rows * row + length, like.dtype)
    shift = (-numbers.ctypes.data % BYTES) // like.itemsize
    return numbers[shift : shift + n_rows * row].reshape(n_rows, row)


@njit(nogil=True)
def multiply_rows(A, a, row_step, column_step, B, b, C, c, n_rows, n_vectors, depth, beta):
    """All rows of 4 vectors of a product, or of one."""
    apart()
    lb, lc = B.shape[1], C.shape[1]
    i = 0
    while i < n_rows:
        left = n_rows - i
        at, to = a + i * row_step, c + i * lc
        if n_vectors == 4:
            if left >= 6 and left != 8:
                tile_6_4(A, at, row_step, column_step, B, b, lb, C, to, lc, depth, beta)
                i += 6
            elif left >= 4:
                tile_4_4(A, at, row_step, column_step, B, b, lb, C, to, lc, depth, beta)
                i += 4
            elif left >= 2:
                tile_2_4(A, at, row_step, column_step, B, b, lb, C, to, lc, depth, beta)
                i += 2
            else:
                tile_1_4(A, at, row_step, column_step, B, b, lb, C, to, lc, depth, beta)
                i += 1
        elif left >= 6:
            tile_6_1(A, at, row_step, column_step, B, b, lb, C, to, lc, depth, beta)
            i += 6
        else:
            tile_1_1(A, at, row_step, column_step, B, b, lb, C, to, lc, depth, beta)
            i += 1


@njit(nogil=True)
def multiply(A, transposed, B, first, last, C, to, n_rows, depth, beta):
    """``C[:n_rows, to:] = beta C + A B[:depth, first:last]``, of ``A'`` if transposed.

    ``first``, ``last`` and ``to`` are whole vectors; ``beta`` is 0 or 1.
    """
    apart()
    length = BYTES // A.itemsize
    row_step, column_step = A.shape[1], YES
    if transposed:
        row_step, column_step = YES, A.shape[1]
    for start in range(0, depth, DEPTH):
        part = min(DEPTH, depth - start)
        own_beta = beta if start == 0 else YES
        j = first
        while j < last:
            n_vectors = 4 if last - j >= 4 * length else 1
            multiply_rows(
                A,
                start * column_step,
                row_step,
                column_step,
                B,
                start * B.shape[1] + j,
                C,
                to + j - first,
                n_rows,
                n_vectors,
                part,
                own_beta,
            )
            j += n_vectors * length


@njit(nogil=True)
def inner_products(A, n_rows, B, n_columns, C, symmetric):
    """``C[:n_rows, :n_columns] = A B'``; if symmetric, only up to the diagonal."""
    apart()
    la, lb, lc = A.shape[1], B.shape[1], C.shape[1]
    for i in range(0, n_rows, 4):
        height = min(4, n_rows - i)
        last = min(n_columns, i + 4) if symmetric else n_columns
        j = 0
        while j < last:
            if height == 4 and last - j >= 4:
                inner_4_4(A, i * la, la, B, j * lb, lb, C, i * lc + j, lc, la)
                j += 4
            elif height == 4:
                inner_4_1(A, i * la, la, B, j * lb, lb, C, i * lc + j, lc, la)
                j += 1
            else:
                for r in range(i, i + height):
                    inner_1_1(A, r * la, la, B, j * lb, lb, C, r * lc + j, lc, la)
                j += 1


@njit(nogil=True)
def gram_matrix(A, k, G):
    """``G = A A'`` of the first k rows."""
    inner_products(A, k, A, k, G, YES)
    for i in range(k):
        for j in range(i):
            G[j, i] = G[i, j]


@njit(nogil=True)
def invert_few(A, k):
    """Replace the leading k x k part of a small positive definite matrix by its inverse."""
    apart()
    for p in range(k):
        scale = 1 / A[p, p]
        A[p, p] = 1
        for j in range(k):
            A[p, j] *= scale
        for i in range(k):
            factor = A[i, p]
            if i != p:
                A[i, p] = 0
                for j in range(k):
                    A[i, j] -= factor * A[p, j]


@njit(nogil=True)
def invert(A, k):
    """Replace the leading k x k part of a positive definite matrix by its inverse.

    By exchanges of a few rows and columns in turn (Gauss & Jordan): with those of a block
    P, ``A_PJ <- A_PP^-1 A_PJ`` and ``A_IJ <- A_IJ - A_IP A_PP^-1 A_PJ``.
    """
    apart()
    if k <= 2 * BLOCK:
        invert_few(A, k)
        return
    width = padded(k, A.itemsize)
    columns, rows, block = zeros(k, BLOCK, A), zeros(BLOCK, k, A), zeros(BLOCK, BLOCK, A)
    for p in range(0, k, BLOCK):
        size = min(BLOCK, k - p)
        for i in range(k):
            for j in range(size):
                columns[i, j] = -A[i, p + j]
                A[i, p + j] = 0
        for i in range(size):
            for j in range(size):
                block[i, j] = -columns[p + i, j]
                columns[p + i, j] = 0
            A[p + i, p + i] = 1
        invert_few(block, size)
        multiply(block, NO, A[p:], NO, width, rows, NO, size, size, NO)
        for i in range(size):
            for j in range(width):
                A[p + i, j] = rows[i, j]
        multiply(columns, NO, rows, NO, width, A, NO, k, size, YES)


# Eigenvectors, by LAPACK -------------------------------------------------------------


@intrinsic
def call_with(typing, address, arguments):
    """Call the function at an address with other addresses, a tuple of them."""

    def code(context, builder, signature, values):
        address, addresses = values
        byte = ir.IntType(8).as_pointer()
        pointers = cgutils.unpack_tuple(builder, addresses)
        kind = ir.FunctionType(ir.VoidType(), [byte] * len(pointers))
        function = builder.inttoptr(address, kind.as_pointer())
        builder.call(function, [builder.inttoptr(p, byte) for p in pointers])
        return context.get_dummy_value()

    return types.void(address, arguments), code


def eigensolver():
    """Address of LAPACK's eigensolver; it differs from process to process."""
    return get_cython_function_address("scipy.linalg.cython_lapack", "dsyevr")


@njit(nogil=True)
def leading_eigenvectors(G, n, d, out, lapack):
    """Eigenvectors of the d largest eigenvalues of a symmetric matrix, as rows, in float64.

    Parameters
    ----------
    G : array of shape (n, padded n)
    out : array of shape (d, padded n)
    lapack : int
        See :func:`eigensolver`.
    """
    apart()
    reals = np.zeros(2 + n * n + n + n * d + 26 * n)
    integers = np.zeros(10 + 2 * n + 10 * n, np.int32)
    matrix, values, vectors, work = 2, 2 + n * n, 2 + n * n + n, 2 + n * n + n + n * d
    for i in range(n):
        for j in range(n):
            reals[matrix + i * n + j] = G[i, j]
    # Letters are the first bytes of numbers: vectors, by index, of the lower triangle.
    for i, number in enumerate((86, 73, 76, n, n - d + 1, n, 0, 26 * n, 10 * n)):
        integers[i] = number
    support = 10
    real, integer = reals.ctypes.data, integers.ctypes.data
    call_with(
        lapack,
        (
            integer,  # which results
            integer + 4,  # which values
            integer + 8,  # which triangle
            integer + 12,  # n
            real + 8 * matrix,
            integer + 12,
            real,  # least and largest value, not read
            real,
            integer + 16,  # first and last index
            integer + 20,
            real + 8,  # tolerance: the default
            integer + 24,  # how many were found
            real + 8 * values,
            real + 8 * vectors,
            integer + 12,
            integer + 4 * support,
            real + 8 * work,
            integer + 28,
            integer + 4 * (support + 2 * n),
            integer + 32,
            integer + 36,  # whether it failed
        ),
    )
    if integers[9] != 0:
        d = 0
    for i in range(d):
        for j in range(n):
            out[i, j] = reals[vectors + (d - 1 - i) * n + j]
