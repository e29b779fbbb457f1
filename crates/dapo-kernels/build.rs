//! Compiles every `src/*/kernel.cu`: with nvcc for the feature `cuda`, with a C++ compiler for `emulate`.
//!
//! Without either feature nothing is done and nothing is needed. What is read from the environment:
//!
//! - `NVCC`, `PATH`, `CUDA_HOME` or `CUDA_PATH`: where nvcc is, in this order.
//! - `DAPO_CUDA_ARCHS`: architectures to make machine code for, such as `80,90a`; else `CUDA_COMPUTE_CAP` (90 means
//!   90a), else 90a. Other devices compile the PTX when it is loaded.
//! - `CXX`: the C++ compiler of the emulation. `DAPO_EMULATION_SANITIZE=1` adds gcc's address and undefined-behaviour
//!   sanitizers to the emulated kernels; run the tests by `scripts/cuda-emulation.sh`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// PTX for this and every later architecture: the first with bf16 arithmetic and asynchronous copies.
const PTX_ARCHITECTURE: &str = "80";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let cuda = env::var_os("CARGO_FEATURE_CUDA").is_some();
    let emulate = env::var_os("CARGO_FEATURE_EMULATE").is_some();
    if !cuda && !emulate {
        return;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let sources = sources(Path::new("src"));
    if cuda {
        compile_for_devices(&sources, &out);
    }
    if emulate {
        compile_emulation(&sources, &out);
    }
}

/// The operations' folders that have a kernel, by name.
fn sources(root: &Path) -> Vec<(String, PathBuf)> {
    println!("cargo:rerun-if-changed={}", root.display());
    let mut found: Vec<(String, PathBuf)> = fs::read_dir(root)
        .expect("src is there")
        .filter_map(|entry| {
            let folder = entry.ok()?.path();
            let kernel = folder.join("kernel.cu");
            kernel.is_file().then(|| (folder.file_name().unwrap_or_default().to_string_lossy().into_owned(), kernel))
        })
        .collect();
    found.sort();
    found
}

fn run(command: &mut Command, hint: &str) {
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{command:?} failed with {status}"),
        Err(error) => panic!("{command:?} could not be started: {error}. {hint}"),
    }
}

/// Runs a compiler, unless `output` is newer than the sources and was made by the same command: cargo runs this script
/// after every change in `src`.
fn compile(command: &mut Command, source: &Path, output: &Path, hint: &str) {
    let newest = |folder: &Path| {
        let headers = fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        let headers =
            headers.filter(|path| path.extension().is_some_and(|kind| ["cuh", "h", "cpp"].iter().any(|k| kind == *k)));
        headers.filter_map(|path| changed(&path)).max()
    };
    let folders = fs::read_dir("src").into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let headers = folders.chain([PathBuf::from("src/cuda/emulation")]).filter_map(|folder| newest(&folder)).max();
    command.arg(source).arg("-o").arg(output);
    let text = format!("{command:?}");
    let note = output.with_extension("command");
    let same = fs::read_to_string(&note).is_ok_and(|before| before == text);
    if same && changed(output) > changed(source).max(headers) {
        return;
    }
    run(command, hint);
    fs::write(note, text).expect("OUT_DIR can be written");
}

fn changed(path: &Path) -> Option<std::time::SystemTime> {
    fs::metadata(path).and_then(|data| data.modified()).ok()
}

fn variable(name: &str) -> Option<String> {
    println!("cargo:rerun-if-env-changed={name}");
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn nvcc() -> PathBuf {
    if let Some(path) = variable("NVCC") {
        return path.into();
    }
    let on_path: Vec<PathBuf> = variable("PATH")
        .map(|path| env::split_paths(&path).map(|folder| folder.join("nvcc")).collect())
        .unwrap_or_default();
    let at_home =
        ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(variable).map(|home| Path::new(&home).join("bin/nvcc"));
    let candidates: Vec<PathBuf> = on_path.into_iter().chain(at_home).collect();
    candidates.into_iter().find(|nvcc| nvcc.is_file()).unwrap_or_else(|| {
        panic!(
            "the feature `cuda` needs nvcc, and it is neither on PATH nor in CUDA_HOME. Install the CUDA toolkit (13.0 \
             or later), or lay it out from wheels with `scripts/setup-cuda.sh PREFIX` and `. PREFIX/env.sh`; or name \
             the compiler in NVCC"
        )
    })
}

/// Architectures to make machine code for. 9.0 means 90a: the kernels may use what only Hopper has.
fn architectures() -> Vec<String> {
    let named = variable("DAPO_CUDA_ARCHS").or_else(|| variable("CUDA_COMPUTE_CAP")).unwrap_or_else(|| "90a".into());
    named
        .split([',', ' '])
        .filter(|name| !name.is_empty())
        .map(|name| if name.replace('.', "") == "90" { "90a".into() } else { name.replace('.', "") })
        .collect()
}

fn compile_for_devices(sources: &[(String, PathBuf)], out: &Path) {
    let (nvcc, architectures) = (nvcc(), architectures());
    let hint = "Does NVCC name the CUDA compiler?";
    let compile = |source: &Path, arguments: &[&str], output: &Path| {
        compile(Command::new(&nvcc).args(["-O3", "-std=c++17"]).args(arguments), source, output, hint);
    };
    let entries: Vec<String> = sources
        .iter()
        .map(|(name, source)| {
            let ptx = out.join(format!("{name}.ptx"));
            compile(source, &["-ptx", &format!("-arch=compute_{PTX_ARCHITECTURE}")], &ptx);
            let cubins: Vec<String> = architectures
                .iter()
                .map(|architecture| {
                    let cubin = out.join(format!("{name}.{architecture}.cubin"));
                    let generate = format!("-gencode=arch=compute_{architecture},code=sm_{architecture}");
                    compile(source, &["-cubin", &generate], &cubin);
                    format!("({architecture:?}, include_bytes!({:?}))", cubin.display().to_string())
                })
                .collect();
            let (ptx, cubins) = (ptx.display().to_string(), cubins.join(", "));
            format!("    Compiled {{ name: {name:?}, ptx: include_str!({ptx:?}), cubins: &[{cubins}] }},\n")
        })
        .collect();
    let table = format!("static MODULES: &[Compiled] = &[\n{}];\n", entries.concat());
    fs::write(out.join("modules.rs"), table).expect("OUT_DIR can be written");
}

/// Compiles each kernel with the emulation's header, and a table that keeps them all in the program.
fn compile_emulation(sources: &[(String, PathBuf)], out: &Path) {
    let compiler = variable("CXX").unwrap_or_else(|| "c++".into());
    let sanitize = variable("DAPO_EMULATION_SANITIZE").is_some_and(|value| value != "0");
    let sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g"];
    let hint = "The feature `emulate` needs a C++17 compiler (g++ or clang++), on PATH as c++ or named in CXX";
    let mut objects = Vec::new();
    let mut compile_object = |source: &Path, name: &str, defines: &[String]| {
        let object = out.join(format!("{name}{}.o", if sanitize { ".sanitized" } else { "" }));
        let mut command = Command::new(&compiler);
        command.args(["-x", "c++", "-std=c++17", "-O2", "-fPIC", "-Wall", "-Wno-unknown-pragmas", "-ffp-contract=off"]);
        command.args(["-Wno-unused-function", "-Wno-terminate"]).args(defines);
        if sanitize {
            command.args(sanitizers);
        }
        compile(command.arg("-c"), source, &object, hint);
        objects.push(object);
    };
    let mut anchors = Vec::new();
    let emulation = Path::new("src/cuda/emulation");
    let self_test = [("emulation_self_test".to_owned(), emulation.join("self_test.cu"))];
    for (name, source) in sources.iter().chain(&self_test) {
        let anchor = format!("dapo_emulation_anchor_{name}");
        compile_object(source, name, &[format!("-DEMULATION_ANCHOR={anchor}")]);
        anchors.push(format!(
            "extern \"C\" int {anchor};\nextern \"C\" int *keep_{name};\nint *keep_{name} = &{anchor};\n"
        ));
    }
    // In one file with the scheduler, which the program refers to.
    let scheduler = fs::canonicalize(emulation.join("runtime.cpp")).expect("the emulation is there");
    let table = format!("#include {:?}\n{}", scheduler.display().to_string(), anchors.concat());
    let table_path = out.join("emulation.cpp");
    if fs::read_to_string(&table_path).ok().as_ref() != Some(&table) {
        fs::write(&table_path, table).expect("OUT_DIR can be written");
    }
    compile_object(&table_path, "emulation", &[]);

    let archive = out.join("libdapo_emulated_kernels.a");
    let _ = fs::remove_file(&archive);
    run(Command::new("ar").arg("crs").arg(&archive).args(&objects), "The feature `emulate` needs binutils");
    println!("cargo:rustc-link-search=native={}", out.display());
    println!("cargo:rustc-link-lib=static=dapo_emulated_kernels");
    if sanitize {
        println!("cargo:rustc-link-lib=dylib=asan");
        println!("cargo:rustc-link-lib=dylib=ubsan");
    }
    println!("cargo:rustc-link-lib=dylib=stdc++");
}
