//! Numerals, characters, conditions, counts, sums and integrals.

use super::{different, equal};

#[test]
fn a_numeral_may_follow_a_factor() {
    equal(&[
        (r"\frac12 3^n", r"\frac{3^n}{2}"),
        ("x 3^{x^2}", r"x\cdot 3^{x^2}"),
        (r"200\left(\cos \left(\frac{\pi}{6}\right)\right) 20=3464.1", "3464.1"),
        ("f(1+m)", "f+fm"),
        (r"2^3\cdot 3^2", "2^3 3^2"),
        ("f(x)=2x", "y=2x"),
        ("f(x)=2x", "2x"),
        ("g(x)=2x", "f(x)=2x"),
        ("f^{-1}(x)=x+1", "f^{-1}(x)=1+x"),
    ]);
    different(&[("6", "2 3"), ("23", "2 3"), ("f(1)=2", "f(3)=2")]);
}

#[test]
fn full_width_and_script_characters_are_plain() {
    equal(&[
        ("72", "７２"),
        ("72.5", "72．5"),
        ("x_1=1", "x₁=1"),
        ("0.001", "10⁻³"),
        ("x^{12}", "x¹²"),
        ("18", "18元"),
        ("18", "18个"),
        (r"25 \text{ cm}^2", "25 平方厘米"),
        ("2024", "2024年"),
        ("30000", "3万"),
        (r"30000 \text{ m}", "30千米"),
        ("3,5", "3或5"),
        ("don't know", "don’t know"),
        ("18", "18 元。"),
        ("(1,2)", "（１，２）"),
        ("5", "x＝5"),
        (r"30^\circ", "30度"),
        ("x=1, x=2", "x=1或x=2"),
    ]);
    different(&[
        (r"25 \text{ m}^2", "25 平方厘米"),
        ("2024", "2023年"),
        ("18", "18元以上"),
        ("18", "18或19"),
        ("18", "第18"),
    ]);
}

#[test]
fn primes_decimals_and_ordinals() {
    equal(&[
        ("f'(x)=2x", r"f^{\prime}(x)=2x"),
        ("f''(x)=2x", r"f^{\prime\prime}(x)=2x"),
        (r"x^{\prime}+\frac{r}{V} x-r c=0", r"x' + \frac{r}{V}x = rc"),
        ("-1./3", r"-\frac{1}{3}"),
        ("12", "12th"),
        ("21st", "21"),
        (r"63^{\circ} 45^{\prime}", r"63.75^\circ"),
        (r"63^{\circ} 45'", r"63.75^\circ"),
        ("63°45′36″", r"63.76^\circ"),
    ]);
    different(&[
        ("f'(x)=2x", r"f^{\prime\prime}(x)=3x"),
        ("-1./3", r"\frac{1}{3}"),
        ("12", "13th"),
        ("12", "12t"),
        (r"63^{\circ} 45^{\prime}", r"63.45^\circ"),
    ]);
}

#[test]
fn remainders_may_be_written_in_text() {
    equal(&[
        (r"2 \pmod 5", r"2 \ (\text{mod } 5)"),
        (r"2 \pmod 5", "2 (mod 5)"),
        (r"x \equiv 2 \pmod 5", r"x \equiv 2 (mod 5)"),
    ]);
    different(&[
        (r"2 \pmod 5", "3 (mod 5)"),
        (r"x \equiv 2 \pmod 5", r"x \equiv 2 (mod 7)"),
        (r"x \equiv 2 \pmod 5", r"x \equiv 2 \pmod 7"),
        (r"2 \pmod 5", r"2 \pmod 7"),
    ]);
}

#[test]
fn conditions_are_sets() {
    equal(&[
        ("(-3,3)", "|x|<3"),
        (r"(-\infty,-5]\cup[5,\infty)", r"|x| \ge 5"),
        ("(-1,5)", "|x-2|<3"),
        (r"(0,9) \cup (9,36)", r"0<x<36, x \ne 9"),
        (r"[-3,0)\cup(0,\infty)", r"x \ge -3, x \ne 0"),
        (r"[-3,0)\cup(0,\infty)", r"x \ge -3 \text{ and } x \ne 0"),
        (r"x<-7:(-\infty,-7)", "x<-7"),
        (r"x<-7:(-\infty,-7)", r"(-\infty,-7)"),
        (r"k \geqslant 2$ or $k<-20:(-\infty,-20) \cup[2, \infty)", r"(-\infty,-20)\cup[2,\infty)"),
        (r"-1<x \leqslant 1:(-1,1]", "(-1,1]"),
        (r"(-\infty,1)\cup(3,\infty)", "x<1, x>3"),
        (r"(-\infty,5)", r"-\infty < x < 5"),
        ("|x|<3", "-3<x<3"),
        (r"(-3,-1)\cup(1,3)", "1<|x|<3"),
    ]);
    different(&[
        ("(-3,3)", r"|x|\le 3"),
        ("(-3,3)", "|x|<4"),
        (r"(-\infty,-5]\cup[5,\infty)", "|x| > 5"),
        (r"[-3,0)\cup(0,\infty)", r"x \ge -3, x \ne 1"),
        (r"x<-7:(-\infty,-7)", r"(-\infty,-7]"),
        ("x<-7", r"x<-7:(-\infty,-6)"),
        ("3", "|x|<3"),
        ("(-3,3)", "|x|>3"),
    ]);
}

#[test]
fn a_condition_may_be_left_out() {
    equal(&[
        ("f(x)=cx", r"f(x)=cx \text{ for any } c"),
        ("x^2+1", r"f(x) = x^2 + 1, x \in \mathbb{R}"),
        ("x^2+1", r"x^2+1 \quad (x>0)"),
        ("x^2+1", r"x^2+1 \text{ for } x \ge 0"),
        (
            r"\left(\frac{19}{13} t+\frac{51}{13},-\frac{11}{13} t+\frac{4}{13}, t\right)$ for all real numbers $t",
            r"\left(\frac{19t+51}{13},\frac{4-11t}{13},t\right)",
        ),
        (r"\frac{x^{2}}{16}+\frac{y^{2}}{4}=1 (y>0)", r"\frac{x^{2}}{16}+\frac{y^{2}}{4}=1(y>0)"),
        (r"\frac{x^{2}}{16}+\frac{y^{2}}{4}=1 (y>0)", r"\frac{x^{2}}{16}+\frac{y^{2}}{4}=1"),
        (r"x=2k\pi, k \in \mathbb{Z}", r"x=2k\pi"),
        (r"x=2k\pi, k \in \mathbb{Z}", r"x=2k\pi \ (k\in\mathbb{Z})"),
        (r"2k\pi, k \in \mathbb{Z}", r"2k\pi \text{ where } k \text{ is an integer}"),
        ("y=x^2, x>0", "y=x^2"),
        ("x^2", "x^2, x>0"),
    ]);
    different(&[
        ("x^2+1", r"x^2-1 \text{ for } x \ge 0"),
        (r"\frac{x^{2}}{16}+\frac{y^{2}}{4}=1 (y>0)", r"\frac{x^{2}}{16}+\frac{y^{2}}{4}=1 (y<0)"),
        ("3", r"3 \text{ for } n \text{ even}, 5 \text{ for } n \text{ odd}"),
        ("0", "x=0, x>5"),
        ("3n", r"3n \text{ or } 5n \text{ for all } n"),
        ("n", r"n \text{ if } n>0"),
        ("x^2", "x^3, x>0"),
        ("5", "5, x>3"),
    ]);
}

#[test]
fn a_base_may_be_left_out() {
    equal(&[("2516", "2516_8"), ("2516_8", "2516"), ("4210_5", "4210"), ("101_2", "5")]);
    different(&[("4210_5", "4211"), ("52_8", "52_9"), ("101_2", "1100101_2"), ("101_3", "5_6")]);
}

#[test]
fn indexed_letters_are_counts() {
    equal(&[
        ("120", r"\mathrm{C}_{10}^{3}"),
        (r"\frac{n(n-1)(n-2)}{6}", "C_n^3"),
        ("120", "{}_{10}C_{3}"),
        ("120", "C_{10}^3"),
        ("20", "A_5^2"),
        ("20", "P_5^2"),
        ("120", "C(10,3)"),
        ("120", "10C3"),
        ("120", "{}^{10}C_3"),
        ("120", "_{10}C_3"),
        ("C_n^3", "C_n^3"),
        ("C_1", "C_1"),
        ("2C_{10}^3", "240"),
        ("C_5^2 + C_5^3", "20"),
        (r"C_5^2 \cdot A_4^2", "120"),
    ]);
    different(&[("120", "C_{10}^4"), ("20", "A_5^3"), ("C_n^3", "C_n^2")]);
}

#[test]
fn decimals_in_a_structure_need_two_digits() {
    equal(&[("(0.29, 0.196)", "(0.2902, 0.19601)")]);
    different(&[
        ("(0.29, 0.196)", "(0.2952, 0.19601)"),
        ("(0.29, 0.196)", "(0.2902, 0.1966)"),
        ("0.29", "0.2902"),
        ("(0.5, 0.25)", "(0.48, 0.25)"),
    ]);
}

#[test]
fn integers_printed_as_machine_numbers() {
    equal(&[("1e+20", "100000000000000000001"), ("1e+20", "100000000000000000000")]);
    different(&[
        ("1e+20", "100000000000000100001"),
        ("1e+20", "1e+21"),
        ("1000000000000", "1000000000001"),
        ("100000000000000000000", "100000000000000000001"),
    ]);
}

#[test]
fn finite_sums_and_products_are_computed() {
    equal(&[
        (r"\sum_{k=1}^{30}2^{k-1}", "2^{30}-1"),
        ("6", r"\sum_{i=1}^{3} i"),
        ("36", r"\sum_{i=1}^{3}\sum_{j=1}^{3} ij"),
        ("5050", r"\sum_{k=1}^{100} k"),
        (r"\prod_{k=1}^{5} k", "120"),
        (r"\sum_{k=0}^{2} x^k", "1+x+x^2"),
        (r"\sum_{k=3}^{20}(-1)^{k} \ln (k)", r"\sum_{k=3}^{20}(-1)^{k} \ln k"),
        (r"\sum_{k=1}^{3} \sqrt{k}", r"1+\sqrt2+\sqrt3"),
        (r"\sum_{k=1}^{3} k + 1", "7"),
        (r"2\sum_{k=1}^{3} k", "12"),
        (r"S=\sum_{k=1}^{3} k = 6", "6"),
        (r"\sum_{k=0}^{5}\binom{5}{k}", "32"),
        (r"\sum\limits_{k=1}^{4} k^2", "30"),
    ]);
    different(&[
        (r"\sum_{k=1}^{30}2^{k-1}", "2^{30}"),
        (r"\sum_{k=0}^{2} x^k", "1+x"),
        (r"\sum_{k=1}^{3} k", "7"),
        (r"S=\sum_{k=1}^{3} k = 7", "7"),
    ]);
}

#[test]
fn simple_integrals_are_computed() {
    equal(&[
        (r"\int_0^1 x^2 dx", r"\frac13"),
        (r"\int_{0}^{2} (3x^2+1)\,dx", "10"),
        (r"\int_0^{\pi} \sin x \, dx", "2"),
        (r"\int_1^e \frac{1}{x} dx", "1"),
        (r"\int_0^1 e^x dx", "e-1"),
        (r"\int_0^1 x dx = \frac12", r"\frac12"),
        ("6", r"\int_0^1 f(x)dx=6"),
        (r"2\int_0^1 x dx + 1", "2"),
        ("6", r"\int f(x) dx = 6"),
        (r"\int_0^1 x\,\mathrm{d}x", "0.5"),
        (r"45^\circ", r"\frac{\pi}{4} \text{ rad}"),
    ]);
    different(&[
        (r"\int_0^1 x^2 dx", r"\frac12"),
        (r"\int_0^1 x dx = \frac13", r"\frac13"),
        (r"\int_{-1}^1 \frac{1}{x} dx", "0"),
        (r"30^\circ", r"30\text{ km}"),
        (r"25\%", r"25 \text{ cm}"),
        ("8 (apples)", "8:00 a.m."),
    ]);
}
