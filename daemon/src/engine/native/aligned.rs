//! Arrays of numbers that start on a cache line.

use std::marker::PhantomData;

/// A number without invalid bit patterns, so that bytes can be read as it.
///
/// # Safety
/// Every bit pattern must be a valid value, and all bits zero must be the number zero.
pub unsafe trait Plain: Copy + Default + PartialEq + Send + Sync + 'static {}
// SAFETY: every bit pattern is a number, and all bits zero are 0.
unsafe impl Plain for f32 {}
// SAFETY: every bit pattern is a number, and all bits zero are 0.
unsafe impl Plain for u16 {}
// SAFETY: every bit pattern is a number, and all bits zero are 0.
unsafe impl Plain for i16 {}
// SAFETY: every bit pattern is a number, and all bits zero are 0.
unsafe impl Plain for i8 {}

/// An array of numbers that starts on a cache line, so that no register is loaded across two lines. Its length is rounded
/// up to whole cache lines.
#[derive(Clone)]
pub struct Aligned<T>(Vec<CacheLine>, PhantomData<T>);

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct CacheLine([u8; 64]);

impl<T: Plain> Aligned<T> {
    /// Allocates at least `count` zeros.
    pub fn zeros(count: usize) -> Aligned<T> {
        Aligned(vec![CacheLine([0; 64]); (count * size_of::<T>()).div_ceil(64)], PhantomData)
    }
}

impl<T: Plain> std::ops::Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: cache lines are bytes without padding, aligned for any number, and every bit pattern is a valid `T`.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * (64 / size_of::<T>())) }
    }
}

impl<T: Plain> std::ops::DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let count = self.0.len() * (64 / size_of::<T>());
        // SAFETY: as in `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), count) }
    }
}
