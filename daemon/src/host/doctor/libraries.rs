//! The shared libraries that ndtd can use but does not need: whether they load, and their versions.

use crate::engine::onnx;
use libc::{c_char, c_int, c_void};
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The result of looking for a shared library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// Whether the configuration asks for the library.
    pub is_needed: bool,
    /// The loaded library, or the message of the loader.
    pub found: Result<Loaded, String>,
}

/// A shared library that loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Path of the library's file.
    pub path: String,
    /// Major and minor version.
    pub version: (u32, u32),
}

/// File that ONNX Runtime opens beside its own to compute on an NVIDIA GPU.
const CUDA_PROVIDER: &str = "libonnxruntime_providers_cuda.so";

impl Loaded {
    /// Whether ONNX Runtime's CUDA provider lies beside this library.
    pub fn has_cuda(&self) -> bool {
        Path::new(&self.path).with_file_name(CUDA_PROVIDER).exists()
    }
}

/// Looks for ONNX Runtime at the configured path, or else where the engine looks for it. A configured library counts
/// as needed.
pub fn onnxruntime(configured: Option<PathBuf>, is_needed: bool) -> Library {
    let is_needed = is_needed || configured.is_some();
    let path = configured.unwrap_or_else(onnx::usual_library);
    let version = |base: Symbol| {
        // SAFETY: OrtGetApiBase takes nothing and returns a static struct of two function pointers, the
        // second of which returns a static string: the part of the C interface that never changes.
        unsafe {
            let base: extern "C" fn() -> *const OrtApiBase = std::mem::transmute(base);
            let version = ((*base()).version)();
            let version = CStr::from_ptr(version).to_string_lossy();
            let mut numbers = version.split('.').map_while(|number| number.parse().ok());
            (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
        }
    };
    Library { is_needed, found: load(&path, c"OrtGetApiBase", version) }
}

/// Looks for liblsl at the configured path, or else where the daemon looks for it. A configured library counts as
/// needed.
pub fn liblsl(configured: Option<PathBuf>, is_needed: bool) -> Library {
    let is_needed = is_needed || configured.is_some();
    let version = |version: Symbol| {
        // SAFETY: lsl_library_version takes nothing and returns 100 times the major plus the minor version.
        let version = unsafe { std::mem::transmute::<Symbol, extern "C" fn() -> c_int>(version)() };
        (version as u32 / 100, version as u32 % 100)
    };
    let paths = ndt_protocol::lsl::Library::paths(configured.as_deref());
    let mut attempts = paths.iter().map(|path| load(path, c"lsl_library_version", version));
    let first = attempts.next().unwrap_or_else(|| Err("no path to look at".to_owned()));
    // The message is that of the first failure, which names the usual file.
    let found = first.or_else(|says| attempts.find_map(Result::ok).ok_or(says));
    Library { is_needed, found }
}

#[repr(C)]
struct OrtApiBase {
    _api: extern "C" fn(u32) -> *const c_void,
    version: extern "C" fn() -> *const c_char,
}

/// A function of a library, never null.
type Symbol = std::ptr::NonNull<c_void>;

/// Loads `path`, which is never unloaded: these libraries have threads of their own, and the program soon ends.
fn load(path: &Path, symbol: &CStr, version: impl Fn(Symbol) -> (u32, u32)) -> Result<Loaded, String> {
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| format!("a zero byte in the name {}", path.display()))?;
    // SAFETY: both names end with a zero. What a library does when it is loaded is what the engine would run.
    let function = unsafe {
        let handle = libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        if handle.is_null() {
            return Err(loader_says());
        }
        Symbol::new(libc::dlsym(handle, symbol.as_ptr())).ok_or_else(loader_says)?
    };
    // SAFETY: Dl_info is a struct of pointers, for which zeros are valid; its name lives with the library.
    let path = unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        let is_known = libc::dladdr(function.as_ptr(), &mut info) != 0 && !info.dli_fname.is_null();
        if is_known {
            CStr::from_ptr(info.dli_fname).to_string_lossy().into_owned()
        } else {
            path.display().to_string()
        }
    };
    Ok(Loaded { path, version: version(function) })
}

/// Returns the loader's message for its last failure.
fn loader_says() -> String {
    // SAFETY: dlerror returns null or a string that lives until this thread's next call of the loader.
    unsafe {
        let text = libc::dlerror();
        if text.is_null() {
            return "no reason given".to_owned();
        }
        CStr::from_ptr(text).to_string_lossy().split_whitespace().collect::<Vec<_>>().join(" ")
    }
}
