//! Compiles `src/cuda/policy_loss.cu`: with nvcc for the feature `cuda`, with a C++ compiler for `emulate`.
//!
//! Without either feature nothing is done and nothing is needed. nvcc is looked for in `NVCC`, `PATH`, `CUDA_HOME` and
//! `CUDA_PATH`, the C++ compiler in `CXX`; `DAPO_EMULATION_SANITIZE=1` adds gcc's sanitizers to the emulated kernel.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const SOURCE: &str = "src/cuda/policy_loss.cu";
/// The emulation of CUDA, in a checkout of the workspace.
const EMULATION: &str = "../dapo-kernels/src/cuda";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={SOURCE}");
    let feature = |name: &str| env::var_os(format!("CARGO_FEATURE_{name}")).is_some();
    let out = || PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    if feature("CUDA") {
        // PTX for the first architecture with bf16 arithmetic and every later one; the driver compiles it when loaded.
        let mut command = Command::new(nvcc());
        command
            .args(["-O3", "-std=c++17", "-ptx", "-arch=compute_80", SOURCE, "-o"])
            .arg(out().join("policy_loss.ptx"));
        run(&mut command, "Does NVCC name the CUDA compiler?");
    }
    if feature("EMULATE") {
        emulate(&out());
    }
}

fn variable(name: &str) -> Option<String> {
    println!("cargo:rerun-if-env-changed={name}");
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn run(command: &mut Command, hint: &str) {
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => panic!("{command:?} failed with {status}"),
        Err(error) => panic!("{command:?} could not be started: {error}. {hint}"),
    }
}

fn nvcc() -> PathBuf {
    if let Some(path) = variable("NVCC") {
        return path.into();
    }
    let path = variable("PATH").unwrap_or_default();
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(variable).map(|home| Path::new(&home).join("bin"));
    let candidates: Vec<PathBuf> = env::split_paths(&path).chain(homes).map(|folder| folder.join("nvcc")).collect();
    candidates.into_iter().find(|nvcc| nvcc.is_file()).expect(
        "the feature `cuda` needs nvcc, on PATH, in CUDA_HOME or named in NVCC: install the CUDA toolkit, or run \
         `scripts/setup-cuda.sh PREFIX` and `. PREFIX/env.sh`",
    )
}

/// Compiles the kernel and a scheduler of its own, under names of its own.
fn emulate(out: &Path) {
    let scheduler = Path::new(EMULATION).join("emulation/runtime.cpp");
    println!("cargo:rerun-if-changed={EMULATION}/emulation");
    let scheduler = fs::canonicalize(scheduler)
        .expect("the feature `emulate` needs the emulation in dapo-kernels, so a checkout of the workspace");
    let compiler = variable("CXX").unwrap_or_else(|| "c++".into());
    let sanitize = variable("DAPO_EMULATION_SANITIZE").is_some_and(|value| value != "0");
    let table = out.join("emulation.cpp");
    let text = "extern \"C\" int dapo_loss_anchor;\nextern \"C\" int *keep_policy_loss;\n\
                int *keep_policy_loss = &dapo_loss_anchor;\n";
    fs::write(&table, format!("#include {:?}\n{text}", scheduler.display().to_string()))
        .expect("OUT_DIR can be written");
    let mut objects = Vec::new();
    for (source, name) in [(Path::new(SOURCE), "policy_loss.o"), (table.as_path(), "emulation.o")] {
        let object = out.join(name);
        let mut command = Command::new(&compiler);
        command.args(["-x", "c++", "-std=c++17", "-O2", "-fPIC", "-Wall", "-Wno-unknown-pragmas", "-ffp-contract=off"]);
        command.args(["-Wno-unused-function", "-DEMULATION_ANCHOR=dapo_loss_anchor", "-I", EMULATION]);
        command.args(["-Demulation=dapo_loss_emulation", "-Ddapo_emulation_launch=dapo_loss_emulation_launch"]);
        if sanitize {
            command.args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"]);
        }
        command.arg("-c").arg(source).arg("-o").arg(&object);
        run(&mut command, "The feature `emulate` needs a C++17 compiler, on PATH as c++ or named in CXX");
        objects.push(object);
    }
    let archive = out.join("libdapo_emulated_loss.a");
    let _ = fs::remove_file(&archive);
    run(Command::new("ar").arg("crs").arg(&archive).args(&objects), "The feature `emulate` needs binutils");
    println!("cargo:rustc-link-search=native={}", out.display());
    println!("cargo:rustc-link-lib=static=dapo_emulated_loss");
    if sanitize {
        println!("cargo:rustc-link-lib=dylib=asan");
        println!("cargo:rustc-link-lib=dylib=ubsan");
    }
    println!("cargo:rustc-link-lib=dylib=stdc++");
}
