//! Compiled templates, in which every operation that reads or makes much is charged for it.

use super::budget::{invalid, settled, spend, spend_length, spend_whole};
use minijinja::machinery::{CompiledTemplate, Instruction, Instructions, TemplateConfig, Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, Error, Value, machinery};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The name that templates have in the engine.
pub(super) const NAME: &str = "chat_template";

/// The longest template, in bytes; those that are published have up to 30 thousand.
const LONGEST: usize = 1 << 18;
/// Words and signs between the brackets of one tag, and `elif` branches of the template: the parser recurses in both.
const TOKENS: usize = 4096;

/// The functions that instructions are charged by. No template can call or hide them: the names are no identifiers.
const BYTES: &str = "of bytes";
const WHOLE: &str = "of a whole value";
const NESTED: &str = "of a nested value";
const STORED: &str = "of a stored value";
const SETTLED: &str = "settled";
const REPEATED: &str = "*";

self_cell::self_cell!(
    /// A template's text and what was compiled from it.
    pub(super) struct Program {
        owner: String,
        #[covariant]
        dependent: Code,
    }
);

pub(super) struct Code<'a> {
    main: Instructions<'a>,
    blocks: BTreeMap<&'a str, Instructions<'a>>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").finish_non_exhaustive()
    }
}

/// How jinja2 reads templates as transformers sets it up.
pub(super) fn syntax() -> Result<SyntaxConfig, Error> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()
}

/// Refuses templates that are too long or nested for the parser.
pub(super) fn check_source(source: &str) -> Result<(), Error> {
    if source.len() > LONGEST {
        return Err(invalid(format!("it has {} bytes, expected at most {LONGEST}", source.len())));
    }
    let (mut tokens, mut branches) = (0, 0);
    // What is no token is for the parser to name.
    for (token, span) in tokenize(source, false, syntax()?).map_while(Result::ok) {
        match token {
            Token::TemplateData(_) | Token::VariableStart | Token::BlockStart => tokens = 0,
            Token::Ident("elif") => branches += 1,
            _ => {}
        }
        tokens += 1;
        if tokens > TOKENS || branches > TOKENS {
            let what = if tokens > TOKENS { "a tag with" } else { "`elif`" };
            let place = span.start_line;
            return Err(invalid(format!(
                "{what} more than {TOKENS} parts is too complex (line {place} of the template)"
            )));
        }
    }
    Ok(())
}

impl Program {
    pub(super) fn compile(source: String) -> Result<Self, Error> {
        Self::try_new(source, |source| {
            let config =
                TemplateConfig { syntax_config: syntax()?, default_auto_escape: Arc::new(|_| AutoEscape::None) };
            let compiled = CompiledTemplate::new(NAME, source, &config)?;
            let blocks = compiled.blocks.iter().map(|(name, block)| (*name, charged(block)));
            Ok(Code { main: charged(&compiled.instructions), blocks: blocks.collect() })
        })
    }

    pub(super) fn run(&self, environment: &Environment<'static>, context: Value) -> Result<String, Error> {
        let Code { main, blocks } = self.borrow_dependent();
        let mut text = String::new();
        let mut output = machinery::make_string_output(&mut text);
        machinery::eval(environment, main, context, blocks, &mut output, AutoEscape::None)?;
        Ok(text)
    }
}

/// The same instructions with a charge before or after each that reads or makes much.
fn charged<'a>(plain: &Instructions<'a>) -> Instructions<'a> {
    let listed: Vec<&Instruction<'a>> = (0..).map_while(|at| plain.get(at)).collect();
    let targets: BTreeSet<u32> = listed.iter().filter_map(|instruction| target(instruction)).collect();
    let mut places = Vec::with_capacity(listed.len() + 1);
    let mut all: Vec<(Instruction<'a>, u16)> = Vec::with_capacity(2 * listed.len());
    for (at, instruction) in listed.iter().enumerate() {
        places.push(all.len() as u32);
        let line = plain.get_line(at as u32).unwrap_or(0) as u16;
        let constant = at > 0 && !targets.contains(&(at as u32)) && matches!(listed[at - 1], Instruction::LoadConst(_));
        all.extend(around(instruction, constant).into_iter().map(|instruction| (instruction, line)));
    }
    places.push(all.len() as u32);
    let mut charged = Instructions::new(plain.name(), plain.source());
    for (mut instruction, line) in all {
        if let Some(target) = target_mut(&mut instruction) {
            *target = places.get(*target as usize).copied().unwrap_or(u32::MAX);
        }
        charged.add_with_line(instruction, line);
    }
    charged
}

/// An instruction with its charges; `constant` says that the upper operand stands in the template.
fn around<'a>(instruction: &Instruction<'a>, constant: bool) -> Vec<Instruction<'a>> {
    use Instruction as I;
    let call = |name| I::CallFunction(name, Some(1));
    let upper = |name| [I::DupTop, call(name), I::DiscardTop];
    let lower = |name| [I::Swap, I::DupTop, call(name), I::DiscardTop, I::Swap];
    let it = || instruction.clone();
    match instruction {
        I::EmitRaw(text) => vec![I::LoadConst(text.len().into()), call(BYTES), I::DiscardTop, it()],
        I::Add => [&upper(WHOLE)[..], &lower(WHOLE), &[it(), call(SETTLED)]].concat(),
        I::StringConcat => [&upper(WHOLE)[..], &lower(WHOLE), &[it()]].concat(),
        // A comparison reads no more than the shorter operand.
        I::Eq | I::Ne | I::Lt | I::Lte | I::Gt | I::Gte | I::In | I::CompareAndPreserve(_) if !constant => {
            [&upper(WHOLE)[..], &[it()]].concat()
        }
        I::Mul => vec![I::CallFunction(REPEATED, Some(2)), call(SETTLED)],
        I::Slice => vec![it(), call(SETTLED)],
        I::BuildList(_) | I::BuildTuple(_) | I::BuildMap(_) => [&[it()], &upper(NESTED)[..]].concat(),
        I::SetAttr(_) => [&lower(STORED)[..], &[it()]].concat(),
        _ => vec![it()],
    }
}

fn target(instruction: &Instruction<'_>) -> Option<u32> {
    target_mut(&mut instruction.clone()).map(|target| *target)
}

fn target_mut<'a>(instruction: &'a mut Instruction<'_>) -> Option<&'a mut u32> {
    match instruction {
        Instruction::Iterate(target)
        | Instruction::Jump(target)
        | Instruction::JumpIfFalse(target)
        | Instruction::JumpIfFalseOrPop(target)
        | Instruction::JumpIfTrueOrPop(target)
        | Instruction::BuildMacro(_, target, _) => Some(target),
        _ => None,
    }
}

/// Makes the functions known that charged instructions call.
pub(super) fn add_charges(environment: &mut Environment<'static>) {
    environment.add_function(BYTES, |bytes: usize| spend(bytes));
    environment.add_function(WHOLE, |value: Value| spend_whole(&value, true));
    environment.add_function(NESTED, |value: Value| spend_whole(&value, false));
    environment.add_function(SETTLED, settled);
    environment.add_function(STORED, |value: Value| {
        spend_length(&value)?;
        if holds_namespace(&value)? {
            Err(invalid("a namespace within a namespace is not supported".into()))
        } else {
            Ok(())
        }
    });
    environment.add_function(REPEATED, repeated);
}

/// Whether a value is a namespace or has one in it: a namespace that holds itself would never be freed.
fn holds_namespace(value: &Value) -> Result<bool, Error> {
    let Some(object) = value.as_object() else { return Ok(false) };
    if object.type_name().ends_with("::Namespace") {
        return Ok(true);
    }
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) {
        return Ok(false);
    }
    spend_length(value)?;
    for item in value.try_iter()? {
        let item = if value.kind() == ValueKind::Map { value.get_item(&item)? } else { item };
        if holds_namespace(&item)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The product of two values, a text or list times a number too.
fn repeated(state: &mut minijinja::State<'_, '_>, a: Value, b: Value) -> Result<Value, Error> {
    for (one, other) in [(&a, &b), (&b, &a)] {
        if let (Some(times), false) = (one.as_usize(), other.is_number()) {
            let length = other.as_str().map_or_else(|| other.len().unwrap_or(1).saturating_mul(16), str::len);
            spend(length.saturating_mul(times))?;
        }
    }
    let product = state.env().compile_expression("a * b")?;
    product.eval(minijinja::context! { a, b })
}
