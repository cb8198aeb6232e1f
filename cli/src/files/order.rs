//! From Fortran order, in which the first dimension varies fastest, to C order.

use ndarray::{Array, ArrayView, IxDyn, ShapeBuilder};

/// The same array in C order. `values` are as many as `shape` has.
pub fn from_fortran<T: Clone + Default>(values: Vec<T>, shape: &[usize]) -> Vec<T> {
    let Ok(fortran) = ArrayView::from_shape(IxDyn(shape).f(), &values) else {
        // ndarray refuses shapes such as (0, 2⁶³, 2⁶³), but an array without values is the same in both orders.
        return values;
    };
    let mut c = Array::default(fortran.raw_dim());
    c.assign(&fortran);
    c.into_raw_vec_and_offset().0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers the elements of a shape in C order and gives them in Fortran order, by the definition of the strides.
    fn fortran(shape: &[usize]) -> Vec<usize> {
        let count = shape.iter().product();
        let mut data = vec![0; count];
        for number in 0..count {
            let (mut rest, mut index) = (number, vec![0; shape.len()]);
            for dimension in (0..shape.len()).rev() {
                index[dimension] = rest % shape[dimension];
                rest /= shape[dimension];
            }
            let (mut stride, mut at) = (1, 0);
            for (&i, &size) in index.iter().zip(shape) {
                at += i * stride;
                stride *= size;
            }
            data[at] = number;
        }
        data
    }

    #[test]
    fn every_rank() {
        let shapes: &[&[usize]] = &[
            &[],
            &[5],
            &[2, 3],
            &[70, 33],
            &[3, 4, 5],
            &[2, 3, 4, 5],
            &[3, 1, 2, 2, 4],
            &[40, 2, 3, 41],
            &[0, 3],
            &[2, 0, 3],
            &[usize::MAX, 0, usize::MAX],
        ];
        for shape in shapes {
            let data = fortran(shape);
            let expected: Vec<usize> = (0..data.len()).collect();
            assert_eq!(from_fortran(data, shape), expected, "{shape:?}");
        }
    }
}
