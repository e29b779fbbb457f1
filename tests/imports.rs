//! Modules import what they need by the path of the module that defines it, and never in a circle.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

const CRATES: [&str; 2] = ["dapo-loss", "dapo-sampler"];

/// The modules of a crate by path (`fused::loss_plan`), with their text without tests.
fn modules(folder: &Path, path: &str, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        let stem = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let child = if path.is_empty() { stem.clone() } else { format!("{path}::{stem}") };
        if file.is_dir() {
            modules(&file, &child, found);
        } else if file.extension().is_some_and(|extension| extension == "rs") && stem != "lib" {
            let text = fs::read_to_string(&file).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap().to_owned();
            found.insert(if stem == "mod" { path.to_owned() } else { child }, text);
        }
    }
}

/// The paths below `crate` that a module's `use` declarations name.
fn imports(text: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for declaration in text.split("\nuse ").skip(1).map(|rest| rest.split(';').next().unwrap()) {
        let declaration: String = declaration.split_whitespace().collect();
        if let Some(tree) = declaration.strip_prefix("crate::") {
            expand(tree, "", &mut paths);
        }
    }
    paths
}

/// Appends the paths of a tree such as `a::{b,c::{d,e}}`.
fn expand(tree: &str, prefix: &str, paths: &mut Vec<String>) {
    let Some((head, rest)) = tree.split_once('{') else {
        paths.push(format!("{prefix}{tree}"));
        return;
    };
    let prefix = format!("{prefix}{head}");
    let (mut depth, mut start) = (0, 0);
    let inside = rest.strip_suffix('}').unwrap();
    for (at, character) in inside.char_indices().chain([(inside.len(), ',')]) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if start < at {
                    expand(&inside[start..at], &prefix, paths);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// The module that an imported path lies in: the longest module path that begins it.
fn module_of<'a>(import: &str, modules: &'a BTreeMap<String, String>) -> Option<&'a str> {
    let begins = |module: &&String| import.strip_prefix(module.as_str()).is_some_and(|rest| rest.starts_with("::"));
    modules.keys().filter(begins).max_by_key(|module| module.len()).map(String::as_str)
}

/// A circle through `module`, if there is one.
fn circle(module: &str, graph: &BTreeMap<String, BTreeSet<String>>, way: &mut Vec<String>) -> Option<String> {
    if let Some(start) = way.iter().position(|passed| passed == module) {
        return Some(way[start..].join(" -> "));
    }
    way.push(module.to_owned());
    let found = graph[module].iter().find_map(|next| circle(next, graph, way));
    way.pop();
    found
}

#[test]
fn modules_import_by_path_and_never_in_a_circle() {
    for name in CRATES {
        let mut found = BTreeMap::new();
        modules(&Path::new(env!("CARGO_MANIFEST_DIR")).join("crates").join(name).join("src"), "", &mut found);
        let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (module, text) in &found {
            let edges = graph.entry(module.clone()).or_default();
            for import in imports(text) {
                let Some(target) = module_of(&import, &found) else {
                    panic!("{name}: {module} imports {import} from the root of the crate");
                };
                edges.insert(target.to_owned());
            }
        }
        for module in found.keys() {
            let circle = circle(module, &graph, &mut Vec::new());
            assert!(circle.is_none(), "{name}: {}", circle.unwrap_or_default());
        }
    }
}

#[test]
fn trees_of_imports_are_read() {
    let text = "\nuse crate::{\n    a::{B, c::{D, e}},\n    f::G,\n};\nuse crate::h::i;\nuse std::fmt;\n";
    assert_eq!(imports(text), ["a::B", "a::c::D", "a::c::e", "f::G", "h::i"]);
}
