//! Chat templates that take too long, too much memory, or too much stack.

use crate::copy;
use dapo_policy::{ChatOptions, Message, Tokenizer};
use std::fs;
use std::time::{Duration, Instant};

fn render(template: &str) -> Result<String, String> {
    let dir = copy();
    fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    let tokenizer = Tokenizer::from_folder(dir.path()).unwrap();
    let text = tokenizer.apply_chat_template(&[Message::user("Hi")], &ChatOptions::default());
    text.map_err(|error| error.to_string())
}

#[track_caller]
fn refused(template: &str, why: &str) {
    let shown: String = template.chars().take(120).collect();
    let started = Instant::now();
    let error = render(template).expect_err(&shown);
    assert!(error.starts_with("chat template: /") && error.contains("chat_template.jinja: "), "{shown}: {error}");
    assert!(error.contains(why), "{shown}: {error}");
    assert!(error.len() < 1000, "{shown}: {} bytes of error", error.len());
    assert!(started.elapsed() < Duration::from_secs(20), "{shown}: {:?}", started.elapsed());
}

/// A template that does something over and over to a text of one character.
fn grown(step: &str) -> String {
    format!(
        "{{% set ns = namespace(s='ab', l=['ab'], d={{}}) %}}{{% for i in range(99999) %}}{{% {step} %}}{{% endfor %}}"
    )
}

const TOO_MUCH: &str = "it makes too much text, or lists that are too long";

#[test]
fn loops_end() {
    let range = "{% for i in range(100000) %}";
    refused(&format!("{}{}", range.repeat(4), "{% endfor %}".repeat(4)), "it takes more than 5000000 steps");
    refused(&format!("{range}{range}{{{{ i }}}}{{% endfor %}}{{% endfor %}}"), "steps");
    refused("{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}", "recursion limit exceeded");
    refused("{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}", "steps");
    refused("{% for x in [[1]] recursive %}{{ loop([[x]]) }}{{ loop([[x]]) }}{% endfor %}", "");
}

#[test]
fn texts_do_not_grow_without_end() {
    let long = "x".repeat(100_000);
    for template in [
        grown("set ns.s = ns.s ~ ns.s"),
        grown("set ns.s = ns.s + ns.s"),
        grown("set ns.s = ns.s * 3"),
        grown("set ns.s = ns.s|replace('a', ns.s)"),
        grown("set ns.s = ns.s.replace('a', ns.s)"),
        grown("set ns.s = ns.s|replace('', ns.s)"),
        grown("set ns.s = ns.s.join(['a', ns.s, 'b'])"),
        grown("set ns.s = ['a', ns.s, 'b']|join(ns.s)"),
        grown("set ns.s = ['a', ns.s, 'b']|join(d=ns.s)"),
        grown("set ns.s = '%s%s'|format(ns.s, ns.s)"),
        grown("set ns.s = '{}{}'.format(ns.s, ns.s)"),
        grown("set ns.s = '%s%s' % (ns.s, ns.s)"),
        grown("set ns.s = [ns.s, ns.s]|tojson"),
        grown("set ns.s = [ns.s, ns.s]|string"),
        grown("set ns.s = [ns.s, ns.s]|pprint"),
        grown("set ns.s = [ns.s, ns.s] ~ ''"),
        grown("set ns.s = ns.s.ljust(1000000) ~ i"),
        grown("set ns.s = ns.s|indent(60000, true) ~ '\n'"),
        "{% set ns = namespace(s='a') %}{% for i in range(99999) %}{% set ns.s %}{{ ns.s }}{{ ns.s }}{% endset %}{% endfor %}"
            .into(),
        format!("{{% for i in range(99999) %}}{long}{{% endfor %}}"),
        format!("{{% set x %}}{{% for i in range(99999) %}}{long}{{% endfor %}}{{% endset %}}"),
        format!("{{% set s = '{long}' %}}{{% for i in range(99999) %}}{{{{ s }}}}{{% endfor %}}"),
        format!("{{% set s = '{long}' %}}{{% for i in range(99999) %}}{{{{ s[1:] == s[:-1] }}}}{{% endfor %}}"),
        format!("{{% set s = '{long}' %}}{{% for i in range(99999) %}}{{% if s ~ 'a' < s %}}{{% endif %}}{{% endfor %}}"),
        format!("{{% set s = '{long}' %}}{{% for i in range(99999) %}}{{% if 'ab' in s %}}{{% endif %}}{{% endfor %}}"),
        format!("{{% set s = '{long}' %}}{{% for i in range(99999) %}}{{% if 1 < 2 in s %}}{{% endif %}}{{% endfor %}}"),
        format!("{{% set s = '{long}' %}}{{% for i in range(99999) %}}{{% if s is eq(s) %}}{{% endif %}}{{% endfor %}}"),
        format!("{{% set s = '{long}' %}}{{% for i in range(99999) %}}{{% set t = s.find('ab') %}}{{% endfor %}}"),
        format!("{{% set s = '{long}' %}}{{% for i in range(99999) %}}{{% set t = s|upper %}}{{% endfor %}}"),
        format!("{{% set s = '{long}' %}}{{{{ ([s] * 99999)|map('upper')|join|length }}}}"),
    ] {
        refused(&template, TOO_MUCH);
    }
    refused("{{ 'a' * 10 ** 12 }}", "");
    refused("{{ 'a'.ljust(10 ** 10) }}", "the width is 10000000000, expected at most 1048576");
    refused("{{ 'a'|indent(10 ** 10) }}", "indent: 10000000000, expected at most 65536");
    refused("{{ [1]|tojson(indent=10 ** 10) }}", "the indent is 10000000000, expected at most 1000");
    refused("{{ '%99999999999d'|format(1) }}", "a number in a format has more than 4 digits");
    refused("{{ '%.99999999d' % 1 }}", "a number in a format has more than 4 digits");
    refused("{{ '{:>99999999}'.format(1) }}", "a number in a format has more than 4 digits");
    refused("{{ 1.5|round(10 ** 9) }}", "");
}

#[test]
fn lists_do_not_grow_without_end() {
    for template in [
        grown("set ns.l = ns.l + ns.l"),
        grown("set ns.l = ns.l * 10"),
        grown("set ns.l = (ns.l|list) + (ns.l|list)"),
        grown("set ns.l = [ns.l|string, ns.l|string]"),
        grown("set ns.l = ns.l + [range(100000)|list]"),
        grown("set ns.l = ns.l + [ns.s.split('')]"),
        grown("set ns.s = ns.s ~ ns.s.split('')|string"),
        grown("set ns.l = ([ns.l, ns.l]|sum(start=[]))|list"),
        "{{ (range(100000)|list * 100000)|length }}".into(),
        "{{ ((1, 2) * 99999999)|length }}".into(),
        "{{ range(100000)|batch(60000, 'a')|map('string')|join * 1000 }}".into(),
        "{% for i in range(99999) %}{% set x = [1]|batch(60000, 'a') %}{% endfor %}".into(),
        "{% for i in range(99999) %}{% set x = [1]|slice(60000) %}{% endfor %}".into(),
        "{% for i in range(99999) %}{% set x = range(99999)|sort %}{% endfor %}".into(),
        "{% for i in range(99999) %}{% set x = range(99999)|sum %}{% endfor %}".into(),
        "{% for i in range(99999) %}{% set x = 'a' in range(99999) %}{% endfor %}".into(),
        // Each list holds the one before it twice.
        "{% set ns = namespace(l=[1]) %}{% for i in range(90) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}"
            .into(),
    ] {
        refused(&template, TOO_MUCH);
    }
    refused("{{ range(10 ** 12) }}", "range has too many elements");
    refused("{{ [1]|batch(10 ** 9) }}", "batch: 1000000000, expected at most 65536");
}

#[test]
fn nested_values_do_not_overflow_the_stack() {
    let deep = "nested more than 160 levels deep";
    for end in ["", "{{ ns.l }}", "{{ ns.l|tojson }}", "{{ ns.l == ns.l }}", "{{ ns.l ~ '' }}", "{{ ns.l|string }}"] {
        for step in [
            "set ns.l = [ns.l]",
            "set ns.l = (ns.l,)",
            "set ns.l = {'a': ns.l}",
            "set ns.l = dict(a=ns.l)",
            "set ns.l = [ns.l]|list",
            "set ns.l = ns.l|batch(1)|list",
        ] {
            refused(&(grown(step) + end), deep);
        }
    }
    // Values that are computed when they are read, each from the one before.
    for step in [
        "set ns.l = ns.l|map('upper')",
        "set ns.l = ns.l|select",
        "set ns.l = ns.l|reverse",
        "set ns.l = ns.l[0:]",
        "set ns.l = ns.l[::-1]",
        "set ns.l = ns.l * 1",
        "set ns.l = ns.l|chain([])",
        "set ns.l = ns.l|zip(ns.l)|map('first')",
        "set ns.d = ns.d|chain({'a': 1})",
        "set ns.d = dict(ns.d, a=1)",
    ] {
        let started = Instant::now();
        let text = render(&(grown(step) + "{{ ns.l|length }}{{ ns.l|list }}{{ ns.d }}"));
        assert!(text.as_ref().is_ok_and(|text| text.len() < 100), "{step}: {text:?}");
        assert!(started.elapsed() < Duration::from_secs(5), "{step}: {:?}", started.elapsed());
    }
    refused("{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}", "a namespace within a namespace");
    refused("{% set ns = namespace() %}{% set ns.a = [{'b': ns}] %}{{ ns }}", "a namespace within a namespace");
}

#[test]
fn nested_source_does_not_overflow_the_stack() {
    let many = 100_000;
    for template in [
        format!("{{{{ {}1 }}}}", "not ".repeat(many / 2)),
        format!("{{{{ {}1 }}}}", "-".repeat(many)),
        format!("{{{{ messages{} }}}}", ".x".repeat(many)),
        format!("{{{{ messages{} }}}}", "[0]".repeat(many / 2)),
        format!("{{{{ 1{} }}}}", "|abs".repeat(many / 2)),
        format!("{{{{ 1{} }}}}", " + 1".repeat(many / 2)),
        format!("{{{{ 1{} }}}}", " if 1 else 1".repeat(many / 8)),
        format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(many / 8)),
    ] {
        refused(&template, "more than 4096 parts is too complex (line 1 of the template)");
    }
    refused(&format!("{{{{ {}{} }}}}", "(".repeat(2000), ")".repeat(2000)), "recursion limits");
    refused(&"{% if 1 %}".repeat(20_000), "recursion limits");
    refused(&format!("{{{{ {}'a'{} }}}}", "'%s' % (".repeat(800), ")".repeat(800)), "");
    refused(&"x".repeat(300_000), "it has 300000 bytes, expected at most 262144");
    // Just within the limits.
    assert_eq!(render(&format!("{{{{ {}1 }}}}", "not ".repeat(4000))).as_deref(), Ok("True"));
    assert_eq!(render(&format!("{{{{ [0]{} }}}}", "[:]".repeat(1000))).as_deref(), Ok("[0]"));
    assert_eq!(render(&format!("{{{{ {}1 }}}}", "-".repeat(4000))).as_deref(), Ok("1"));
    let chain = format!("{{{{ [[]]|first{}|length }}}}", "|list".repeat(2000));
    assert_eq!(render(&chain).as_deref(), Ok("0"));
    let branches = format!("{{% if 0 %}}{}{{% else %}}a{{% endif %}}", "{% elif 0 %}".repeat(4000));
    assert_eq!(render(&branches).as_deref(), Ok("a"));
    assert_eq!(render(&"{}".repeat(100_000)).map(|text| text.len()), Ok(200_000));
}

#[test]
fn what_templates_do_in_earnest_stays_possible() {
    let long = Message::user("word ".repeat(200_000));
    let messages: Vec<Message> = (0..400).map(|i| Message::user(format!("message {i}"))).chain([long]).collect();
    let dir = copy();
    let template = "{% set ns = namespace(seen=[], text='') %}{% for m in messages[::-1] %}\
        {% set ns.seen = ns.seen + [m.role] %}\
        {% set ns.text = ns.text ~ m.content.split('word')[-1].strip() ~ loop.index %}\
        {% if m.role == 'user' and m.content is string %}{{ '<' + m.content|trim + '>' }}{% endif %}\
        {% endfor %}{{ ns.seen|length }} {{ ns.text|length }}";
    fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    let tokenizer = Tokenizer::from_folder(dir.path()).unwrap();
    let started = Instant::now();
    let text = tokenizer.apply_chat_template(&messages, &ChatOptions::default()).unwrap();
    assert!(text.len() > 1_000_000 && text.ends_with(">401 5385"), "{}", &text[text.len() - 20..]);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}
