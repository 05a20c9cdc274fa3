//! Strided f32 matrix views and their product: the one safe door to the `gemm` crate.
//!
//! Every product here is single-threaded. The kernels split their rows into blocks of fixed size and let rayon run the
//! blocks, so a result depends neither on the number of threads nor on who runs which block. Nor does a row of a product depend
//! on the rows beside it: a model that is asked relies on that (`crate::inference`).

/// Longest sum of one call of the library; it adds sums up to this length from the first product to the last.
const DEPTH: usize = 512;

/// Products of at most so many numbers the library takes for dot products if both factors have their sums in one piece.
const MOST_BY_DOTS: usize = 256;

/// A borrowed matrix: `rows x cols` entries at `row * row_stride + col * col_stride`.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

/// A mutable matrix; see [`Mat`].
pub(crate) struct MatMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

fn fits(len: usize, rows: usize, cols: usize, row_stride: usize, col_stride: usize) -> bool {
    rows == 0 || cols == 0 || (rows - 1) * row_stride + (cols - 1) * col_stride < len
}

impl<'a> Mat<'a> {
    /// A dense row-major matrix.
    pub(crate) fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A row-major matrix inside wider rows.
    pub(crate) fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(fits(data.len(), rows, cols, row_stride, 1), "matrix view exceeds its data");
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// Rows and columns.
    pub(crate) fn dims(self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// The first `at` rows, and the others.
    fn split_rows(self, at: usize) -> (Self, Self) {
        let rest = Self { rows: self.rows - at, data: &self.data[at * self.row_stride..], ..self };
        (Self { rows: at, ..self }, rest)
    }

    /// The first `at` columns, and the others.
    fn split_cols(self, at: usize) -> (Self, Self) {
        let (first, rest) = self.t().split_rows(at);
        (first.t(), rest.t())
    }

    /// The transpose, without moving anything.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            data: self.data,
        }
    }
}

impl<'a> MatMut<'a> {
    /// A dense row-major matrix.
    pub(crate) fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A row-major matrix inside wider rows.
    pub(crate) fn strided(data: &'a mut [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(fits(data.len(), rows, cols, row_stride, 1), "matrix view exceeds its data");
        Self { data, rows, cols, row_stride }
    }
}

/// What a product does with the previous content of its destination.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    /// Replaces it.
    Overwrite,
    /// Adds to it.
    Accumulate,
}

/// `out = scale * lhs * rhs`, or `out += scale * lhs * rhs`.
pub(crate) fn matmul(out: MatMut<'_>, into: Store, scale: f32, lhs: Mat<'_>, rhs: Mat<'_>) {
    assert_eq!((out.rows, out.cols, lhs.cols), (lhs.rows, rhs.cols, rhs.rows), "matrix shapes do not fit");
    if out.rows == 0 || out.cols == 0 {
        return;
    }
    if rhs.row_stride == 1 && rhs.rows > 1 && rhs.cols > 1 && out.rows * out.cols <= MOST_BY_DOTS {
        // Here it would add each sum in several parts, side by side; not so if the right factor's rows are in one piece.
        let rows = (0..rhs.rows).flat_map(|row| (0..rhs.cols).map(move |col| rhs.data[row + col * rhs.col_stride]));
        let rows: Vec<f32> = rows.collect();
        matmul(out, into, scale, lhs, Mat::new(&rows, rhs.rows, rhs.cols));
        return;
    }
    if out.rows == 1 {
        // The library multiplies a single row in another way, with other roundings; a row has the same bits in any company.
        let row = &mut out.data[..out.cols];
        let mut twice = [&*row, row].concat();
        let lhs = Mat { rows: 2, row_stride: 0, ..lhs };
        matmul(MatMut::new(&mut twice, 2, row.len()), into, scale, lhs, rhs);
        row.copy_from_slice(&twice[..row.len()]);
        return;
    }
    if lhs.cols > DEPTH {
        // Where the library would cut a long sum depends on the other sizes.
        let ((lhs, lhs_rest), (rhs, rhs_rest)) = (lhs.split_cols(DEPTH), rhs.split_rows(DEPTH));
        matmul(MatMut { data: &mut *out.data, ..out }, into, scale, lhs, rhs);
        matmul(out, Store::Accumulate, scale, lhs_rest, rhs_rest);
        return;
    }
    let accumulate = into == Store::Accumulate;
    // SAFETY: each view was checked to lie inside its slice when it was made, and `out` is exclusively borrowed.
    #[expect(unsafe_code, reason = "gemm takes raw pointers; the views above carry the proof")]
    unsafe {
        gemm::gemm(
            out.rows,
            out.cols,
            lhs.cols,
            out.data.as_mut_ptr(),
            1,
            out.row_stride as isize,
            accumulate,
            lhs.data.as_ptr(),
            lhs.col_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.col_stride as isize,
            rhs.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_row_has_the_same_bits_in_any_company() {
        for (inner, cols) in [(16, 300), (128, 384), (1536, 512), (700, 64), (64, 17)] {
            let rows = 130;
            let lhs: Vec<f32> = (0..rows * inner).map(|i| (i as f32 * 0.7).sin()).collect();
            let rhs: Vec<f32> = (0..inner * cols).map(|i| (i as f32 * 0.3).cos()).collect();
            let start: Vec<f32> = (0..cols).map(|i| i as f32 * 0.1).collect();
            let product = |from: usize, to: usize| {
                let mut out = start.repeat(to - from);
                let lhs = Mat::new(&lhs[from * inner..to * inner], to - from, inner);
                let rhs = Mat::new(&rhs, inner, cols);
                matmul(MatMut::new(&mut out, to - from, cols), Store::Accumulate, 1.0, lhs, rhs);
                out
            };
            let all = product(0, rows);
            for (from, to) in [(0, 1), (5, 6), (129, 130), (3, 5), (7, 10), (0, 17), (64, 128), (1, 130)] {
                assert!(product(from, to) == all[from * cols..to * cols], "rows {from} to {to} of {inner} x {cols}");
            }
            let turned: Vec<f32> = (0..cols * inner).map(|i| rhs[i % inner * cols + i / inner]).collect();
            let product = |from: usize, to: usize| {
                let mut out = vec![0.0; (to - from) * cols];
                let lhs = Mat::new(&lhs[from * inner..to * inner], to - from, inner);
                let rhs = Mat::new(&turned, cols, inner).t();
                matmul(MatMut::new(&mut out, to - from, cols), Store::Overwrite, 0.3, lhs, rhs);
                out
            };
            let all = product(0, rows);
            for (from, to) in [(0, 1), (5, 6), (3, 5), (7, 10), (0, 17), (64, 128), (1, 130)] {
                assert!(
                    product(from, to) == all[from * cols..to * cols],
                    "rows {from} to {to}, turned, {inner} x {cols}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn the_product_equals_the_triple_loop(m in 1_usize..9, n in 1_usize..9, k in 1_usize..9, scale in -2.0_f32..2.0) {
            let a: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.7).sin()).collect();
            let b: Vec<f32> = (0..n * k).map(|i| (i as f32 * 0.3).cos()).collect();
            let mut out: Vec<f32> = (0..m * n).map(|i| i as f32).collect();
            let before = out.clone();
            matmul(MatMut::new(&mut out, m, n), Store::Accumulate, scale, Mat::new(&a, m, k), Mat::new(&b, n, k).t());
            for i in 0..m {
                for j in 0..n {
                    let dot: f32 = (0..k).map(|l| a[i * k + l] * b[j * k + l]).sum();
                    prop_assert!((out[i * n + j] - before[i * n + j] - scale * dot).abs() < 1e-4);
                }
            }
        }
    }
}
