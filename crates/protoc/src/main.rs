//! A replacement for `protoc` for a dependency's build script (etcd-client's), so that a machine
//! needs no protobuf compiler. It supports the arguments that prost-build passes: `-I DIR`, `-o
//! FILE`, `--include_imports`, `--include_source_info`, and the files to compile.

use std::{env, path::PathBuf};

use anyhow::{Context as _, bail};

fn main() -> anyhow::Result<()> {
    let mut includes: Vec<PathBuf> = Vec::new();
    let mut files: Vec<PathBuf> = Vec::new();
    let mut output: Option<PathBuf> = None;
    let (mut imports, mut source_info) = (false, false);
    let mut arguments = env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy();
        let mut value = || {
            arguments
                .next()
                .map(PathBuf::from)
                .context("a value must follow")
        };
        match text.as_ref() {
            "-I" | "--proto_path" => includes.push(value()?),
            "-o" | "--descriptor_set_out" => output = Some(value()?),
            "--include_imports" => imports = true,
            "--include_source_info" => source_info = true,
            flag if flag.starts_with('-') => bail!("synod-protoc does not know the flag {flag}"),
            file => files.push(PathBuf::from(file)),
        }
    }
    let output = output.context("-o FILE is missing")?;
    let mut compiler = protox::Compiler::new(&includes)?;
    compiler
        .include_imports(imports)
        .include_source_info(source_info)
        .open_files(&files)?;
    std::fs::write(&output, compiler.encode_file_descriptor_set())
        .with_context(|| format!("cannot write {}", output.display()))
}
