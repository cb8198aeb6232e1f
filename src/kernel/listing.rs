//! Kernels and specialisations by name, so that a self-test can tell which have run and which there are.

use std::collections::HashSet;
use std::fmt;
use std::sync::LazyLock;

use super::{Access, KERNELS, Kernel, PipelineKey, Specialisation, UNROLLED_CLASSES, binding};
use crate::{Gpu, ops};

/// A kernel in one of its specialisations, by name: what [`Dispatch::kernels`](crate::Dispatch::kernels) and
/// [`Gpu::kernels`] list.
///
/// ```
/// use seghead::{Gpu, GpuOptions};
/// let gpu = Gpu::headless_blocking(&GpuOptions::default())?;
/// for one in gpu.kernels(21) {
///     println!("{one}"); // argmax (vec4, f32, u8, 21 classes, confidence)
/// }
/// # Ok::<(), seghead::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct SpecialisedKernel {
    /// The name of the kernel.
    pub kernel: &'static str,
    /// What sets this specialisation apart from others of the kernel, in words; empty where there is a single one.
    pub specialisation: String,
}

impl fmt::Display for SpecialisedKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.specialisation.as_str() {
            "" => f.write_str(self.kernel),
            specialisation => write!(f, "{} ({specialisation})", self.kernel),
        }
    }
}

impl SpecialisedKernel {
    /// Names for all of `keys`, in their order.
    pub(crate) fn of(keys: impl IntoIterator<Item = PipelineKey>) -> Vec<Self> {
        // Computed once: a dispatch may be asked for its kernels often.
        static COMMON: LazyLock<Vec<(&Kernel, HashSet<String>)>> =
            LazyLock::new(|| KERNELS.iter().map(|kernel| (*kernel, common_words(kernel))).collect());
        let name = |(kernel, specialisation): PipelineKey| {
            let mut words = specialisation.words();
            if let Some((_, common)) = COMMON.iter().find(|(known, _)| *known == kernel) {
                words.retain(|word| !common.contains(word));
            }
            Self { kernel: kernel.name, specialisation: words.join(", ") }
        };
        keys.into_iter().map(name).collect()
    }

    /// Every row of the table that operators ask for on `gpu` with that many classes.
    pub(crate) fn all(gpu: &Gpu, classes: u32) -> Vec<PipelineKey> {
        let in_fours = Access::choose(gpu, true);
        let taken = |kernel: &Kernel, access| {
            // What has no tensor has the same access everywhere.
            let is_tensor = |what| [binding::LOGITS.what, binding::OUTPUT.what].contains(&what);
            let tensors = kernel.bindings.iter().any(|binding| is_tensor(binding.what));
            !tensors || access == Access::Scalar || access == in_fours
        };
        let of_kernel = |kernel: &&'static Kernel| {
            let specialisations = (kernel.specialisations)(classes).into_iter();
            let kernel = *kernel;
            let taken = specialisations.filter(move |one| taken(kernel, one.access)).map(move |one| (kernel, one));
            taken.filter(|key| ops::segment::KERNELS.ask_for(gpu, *key, classes))
        };
        KERNELS.iter().flat_map(of_kernel).collect()
    }
}

/// The words that all specialisations of a kernel share, whatever the class count.
fn common_words(kernel: &Kernel) -> HashSet<String> {
    let of = |classes| (kernel.specialisations)(classes).into_iter();
    let all = [1, UNROLLED_CLASSES, UNROLLED_CLASSES + 1].into_iter().flat_map(of);
    let words = |one: Specialisation| HashSet::from_iter(one.words());
    all.map(words).reduce(|a: HashSet<String>, b| a.intersection(&b).cloned().collect()).unwrap_or_default()
}
