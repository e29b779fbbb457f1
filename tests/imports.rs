//! Modules import what they need by the path of the module that defines it, never in a circle, and hardly ever upward.
//!
//! How it is counted: an arrow leads from a file to the file that defines what a `use` declaration or a path that
//! begins with `crate::` or `super::` names. A folder's `mod.rs` is its face, as `lib.rs` is that of the crate: what it
//! re-exports is followed to the definition, and what it takes from its own folder is no arrow. Tests and comments are
//! left out. The files and subfolders of each folder are then put into the order in which the fewest arrows point
//! upward.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

const CRATES: [&str; 15] = [
    "dapo-loss",
    "dapo-reward",
    "dapo-external",
    "dapo-code",
    "dapo-sampler",
    "dapo-kernels",
    "dapo-files",
    "dapo-hub",
    "dapo-policy",
    "dapo-data",
    "dapo-trainer",
    "dapo-eval",
    "dapo-run",
    "dapo-import",
    "dapo-report",
];

/// Most arrows of all crates together that point upward.
const MOST_UPWARD: usize = 3;

type Graph = BTreeMap<String, BTreeSet<String>>;

/// A crate's source files.
#[derive(Default)]
struct Sources {
    /// The text of every module by its path (`fused::loss_plan`), without tests and comments; `lib.rs` is the empty path.
    files: BTreeMap<String, String>,
    /// What the modules re-export: the path by which a name can be reached, and where it leads.
    exports: BTreeMap<String, String>,
}

impl Sources {
    fn of(name: &str) -> Self {
        let mut sources = Self::default();
        sources.read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("crates").join(name).join("src"), "");
        sources.rename_moved();
        sources.find_exports();
        sources
    }

    fn read(&mut self, folder: &Path, path: &str) {
        for entry in fs::read_dir(folder).unwrap() {
            let file = entry.unwrap().path();
            let stem = file.file_stem().unwrap().to_str().unwrap().to_owned();
            let child = join(path, &stem);
            if file.is_dir() {
                self.read(&file, &child);
            } else if file.extension().is_some_and(|extension| extension == "rs") && stem != "tests" {
                let module = if stem == "mod" || (stem == "lib" && path.is_empty()) { path.to_owned() } else { child };
                self.files.insert(module, without_tests_and_comments(&fs::read_to_string(&file).unwrap()));
            }
        }
    }

    /// Gives files that a `mod.rs` declares with a `#[path]` the path of their module.
    fn rename_moved(&mut self) {
        let mut renamed = Vec::new();
        for (module, text) in &self.files {
            for (line, next) in text.lines().zip(text.lines().skip(1)) {
                let path = line.trim().strip_prefix("#[path = \"").and_then(|line| line.strip_suffix(".rs\"]"));
                if let (Some(path), Some((_, name))) = (path, next.split_once("mod ")) {
                    let mut place: Vec<&str> = module.split("::").collect();
                    for step in path.split('/') {
                        match step {
                            ".." => place.truncate(place.len() - 1),
                            step => place.push(step),
                        }
                    }
                    renamed.push((place.join("::"), join(module, name.trim_end_matches(';'))));
                }
            }
        }
        for (from, to) in renamed {
            // Files of tests were not read.
            if let Some(text) = self.files.remove(&from) {
                self.files.insert(to, text);
            }
        }
    }

    fn find_exports(&mut self) {
        let mut exports = BTreeMap::new();
        for (module, text) in &self.files {
            for (exported, declaration) in declarations(text) {
                for path in paths(&declaration).iter().filter(|_| exported) {
                    let (path, alias) = path.split_once(" as ").unwrap_or((path, path.rsplit("::").next().unwrap()));
                    if let Some(target) = self.absolute(module, path) {
                        exports.insert(join(module, alias), target);
                    }
                }
            }
        }
        self.exports = exports;
    }

    /// A path as seen from the root of the crate; `None` where it leads out of the crate.
    fn absolute(&self, module: &str, path: &str) -> Option<String> {
        let (mut base, mut rest) = (module, path);
        if let Some(path) = path.strip_prefix("crate::") {
            return Some(path.to_owned());
        }
        while let Some(path) = rest.strip_prefix("super::") {
            (base, rest) = (base.rsplit_once("::").map_or("", |(parent, _)| parent), path);
        }
        rest = rest.strip_prefix("self::").unwrap_or(rest);
        let is_relative =
            rest.len() < path.len() || self.files.contains_key(&join(module, rest.split("::").next().unwrap()));
        is_relative.then(|| join(base, rest))
    }

    /// The module that defines what a path from the root leads to; the root itself where it is reached through `lib.rs`.
    fn target(&self, path: &str) -> String {
        let path = path.split(" as ").next().unwrap();
        let mut path = path.strip_suffix("::self").unwrap_or(path).to_owned();
        // A re-export may lead to another.
        for _ in 0..8 {
            let module = self.module_of(&path);
            let name = path[module.len()..].trim_start_matches("::").split("::").next().unwrap().to_owned();
            match self.exports.get(&join(module, &name)) {
                Some(export) if !module.is_empty() && !name.is_empty() && *export != path => path.clone_from(export),
                _ => break,
            }
        }
        self.module_of(&path).to_owned()
    }

    /// The longest module path that begins this path.
    fn module_of(&self, path: &str) -> &str {
        let begins = |module: &&String| {
            module.is_empty()
                || path.strip_prefix(module.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        self.files.keys().filter(begins).max_by_key(|module| module.len()).unwrap()
    }

    /// The arrows between files. `lib.rs` has none.
    fn graph(&self) -> Graph {
        let mut graph = Graph::new();
        for (module, text) in self.files.iter().filter(|(module, _)| !module.is_empty()) {
            let declared = declarations(text).into_iter().filter(|(exported, _)| !exported);
            let named = declared.flat_map(|(_, declaration)| paths(&declaration)).chain(in_line(text));
            let found = named.filter_map(|path| self.absolute(module, &path)).map(|path| self.target(&path));
            let is_inside = |target: &String| target.starts_with(&format!("{module}::")) || target == module;
            graph.insert(module.clone(), found.filter(|target| !is_inside(target)).collect());
        }
        graph
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}::{name}") }
}

/// The text up to its test module, without single items for tests and without comments.
fn without_tests_and_comments(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let indent = &line[..line.len() - line.trim_start().len()];
        if line.trim_start().starts_with("#[cfg(test)]") {
            // The item ends on its first line or at the closing brace below its beginning.
            let mut item = lines.by_ref().skip_while(|line| line.trim_start().starts_with("#["));
            let first = item.next().unwrap_or_default();
            if !first.ends_with([';', '}']) {
                item.find(|line| line.starts_with(indent) && matches!(line.trim(), "}" | "};"));
            }
        } else if !line.trim_start().starts_with("//") {
            kept += line.split(" // ").next().unwrap();
            kept.push('\n');
        }
    }
    kept
}

/// Every `use` declaration without white space, and whether it re-exports.
fn declarations(text: &str) -> Vec<(bool, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(line) = rest.lines().next() {
        let item = line.trim_start();
        let visible = item.strip_prefix("pub").map(|item| {
            item.strip_prefix('(').and_then(|item| item.split_once(')')).map_or(item, |(_, item)| item).trim_start()
        });
        if let Some(at) = visible.unwrap_or(item).strip_prefix("use ") {
            let start = at.as_ptr() as usize - rest.as_ptr() as usize;
            let words: Vec<&str> = rest[start..].split(';').next().unwrap().split_whitespace().collect();
            found.push((visible.is_some(), words.join(" ").replace(" as ", "@").replace(' ', "").replace('@', " as ")));
        }
        rest = &rest[(line.len() + 1).min(rest.len())..];
    }
    found
}

/// The paths of a declaration such as `a::{b,c::{d,e}}`.
fn paths(declaration: &str) -> Vec<String> {
    let mut found = Vec::new();
    expand(declaration, "", &mut found);
    found
}

fn expand(tree: &str, prefix: &str, found: &mut Vec<String>) {
    let Some((head, rest)) = tree.split_once('{') else {
        found.push(format!("{prefix}{tree}"));
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
                    expand(&inside[start..at], &prefix, found);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// The paths that begin with `crate::` or `super::` outside `use` declarations.
fn in_line(text: &str) -> Vec<String> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.contains("use ") && !line.contains("pub(in")) {
        let paths = line.split(|c| !is_path(c)).map(|path| path.trim_end_matches(':'));
        found
            .extend(paths.filter(|path| path.starts_with("crate::") || path.starts_with("super::")).map(str::to_owned));
    }
    found
}

/// A circle through `module`, if there is one.
fn circle(module: &str, graph: &Graph, way: &mut Vec<String>) -> Option<String> {
    if let Some(start) = way.iter().position(|passed| passed == module) {
        return Some(way[start..].join(" -> "));
    }
    way.push(module.to_owned());
    let found = graph.get(module).into_iter().flatten().find_map(|next| circle(next, graph, way));
    way.pop();
    found
}

/// The arrows between the files and subfolders of each folder.
fn folders(graph: &Graph) -> BTreeMap<String, Graph> {
    let mut folders: BTreeMap<String, Graph> = BTreeMap::new();
    for (from, targets) in graph {
        for to in targets {
            let (from, to): (Vec<&str>, Vec<&str>) = (from.split("::").collect(), to.split("::").collect());
            let common = from.iter().zip(&to).take_while(|(from, to)| from == to).count();
            let entry = |path: &[&str]| path.get(common).map_or("mod".to_owned(), |&entry| entry.to_owned());
            let folder = folders.entry(from[..common].join("::")).or_default();
            folder.entry(entry(&to)).or_default();
            folder.entry(entry(&from)).or_default().insert(entry(&to));
        }
    }
    folders
}

/// The arrows that point upward in the order in which the fewest do.
fn upward(graph: &Graph) -> Vec<String> {
    let reaches = |from: &str, to: &str| {
        let (mut seen, mut next) = (BTreeSet::from([from]), vec![from]);
        while let Some(at) = next.pop() {
            next.extend(graph[at].iter().map(String::as_str).filter(|&target| seen.insert(target)));
        }
        seen.contains(to)
    };
    let mut left: BTreeSet<&str> = graph.keys().map(String::as_str).collect();
    let mut found = Vec::new();
    while let Some(first) = left.first().copied() {
        let knot: Vec<&str> = left.iter().copied().filter(|&at| reaches(first, at) && reaches(at, first)).collect();
        left.retain(|at| !knot.contains(at));
        assert!(knot.len() <= 16, "{} modules import each other in a circle: {}", knot.len(), knot.join(", "));
        // The members that `at` imports, as bits.
        let imported = |at: usize| {
            (0..knot.len()).filter(|&to| graph[knot[at]].contains(knot[to])).fold(0, |set, to| set | 1 << to)
        };
        let imports: Vec<usize> = (0..knot.len()).map(imported).collect();
        let all = (1_usize << knot.len()) - 1;
        // The fewest upward arrows when a set of members lies below all others, and which of them is topmost.
        let mut best = vec![(0, 0); all + 1];
        for set in 1..=all {
            let members = (0..knot.len()).filter(|top| set >> top & 1 == 1);
            let cost = |top: usize| best[set ^ 1 << top].0 + (imports[top] & all & !set).count_ones();
            best[set] = members.map(|top| (cost(top), top)).min().unwrap();
        }
        let mut set = all;
        while set > 0 {
            let top = best[set].1;
            let above = (0..knot.len()).filter(|to| (imports[top] & all & !set) >> to & 1 == 1);
            found.extend(above.map(|to| format!("{} -> {}", knot[top], knot[to])));
            set ^= 1 << top;
        }
    }
    found
}

#[test]
fn modules_import_by_path_and_never_in_a_circle() {
    for name in CRATES {
        let graph = Sources::of(name).graph();
        for (module, targets) in &graph {
            assert!(!targets.contains(""), "{name}: {module} imports from the root of the crate");
            let circle = circle(module, &graph, &mut Vec::new());
            assert!(circle.is_none(), "{name}: {}", circle.unwrap_or_default());
        }
    }
}

#[test]
fn at_most_three_imports_point_upward() {
    let mut found = Vec::new();
    for name in CRATES {
        for (folder, graph) in folders(&Sources::of(name).graph()) {
            found.extend(upward(&graph).into_iter().map(|arrow| format!("{name}/{folder}: {arrow}")));
        }
    }
    assert!(found.len() <= MOST_UPWARD, "{} arrows point upward:\n{}", found.len(), found.join("\n"));
}

#[test]
fn declarations_are_read() {
    let text = "\nuse crate::{\n    a::{B, c::{D, e}},\n    f::G as H,\n};\npub(crate) use i::j;\nuse std::fmt;\n";
    let read: Vec<_> = declarations(text).into_iter().map(|(exported, tree)| (exported, paths(&tree))).collect();
    let owned = |paths: &[&str]| paths.iter().map(|&path| path.to_owned()).collect::<Vec<_>>();
    let expected = [
        (false, owned(&["crate::a::B", "crate::a::c::D", "crate::a::c::e", "crate::f::G as H"])),
        (true, owned(&["i::j"])),
        (false, owned(&["std::fmt"])),
    ];
    assert_eq!(read, expected);
    let code = "fn f() -> crate::a::B { super::d(1) }\n";
    assert_eq!(in_line(code), ["crate::a::B", "super::d"]);
}

#[test]
fn tests_and_comments_are_left_out() {
    let text =
        "use a;\n#[cfg(test)]\nmod tests;\nuse b;\n// use c;\n#[cfg(test)]\nmod tests {\n    use d;\n}\nuse e;\n";
    assert_eq!(without_tests_and_comments(text), "use a;\nuse b;\nuse e;\n");
}

#[test]
fn paths_lead_to_the_file_that_defines_them() {
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let mut sources = Sources {
        files: BTreeMap::from([
            file("", "mod a;\nmod b;\npub use a::Top;\n"),
            file("a", "mod deep;\npub(crate) use deep::Top;\nuse deep::helper;\n"),
            file("a::deep", "use super::Own;\nuse crate::b::other;\n"),
            file("b", "use crate::a::Top;\nuse crate::Top as Again;\nuse std::fmt;\n"),
        ]),
        ..Sources::default()
    };
    sources.find_exports();
    let graph = sources.graph();
    assert_eq!(graph["a"], BTreeSet::new());
    assert_eq!(graph["a::deep"], BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    assert_eq!(graph["b"], BTreeSet::from(["a::deep".to_owned(), String::new()]));
    assert_eq!(circle("b", &graph, &mut Vec::new()).unwrap(), "b -> a::deep");
}

#[test]
fn the_fewest_upward_arrows_are_counted() {
    let graph = |arrows: &[(&str, &str)]| {
        let mut graph = Graph::new();
        for (from, to) in arrows {
            graph.entry((*to).to_owned()).or_default();
            graph.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        graph
    };
    assert!(upward(&graph(&[("a", "b"), ("b", "c"), ("a", "c")])).is_empty());
    assert_eq!(upward(&graph(&[("a", "b"), ("b", "c"), ("c", "b"), ("c", "a")])), ["b -> c"]);
    assert_eq!(upward(&graph(&[("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")])).len(), 2);
}
