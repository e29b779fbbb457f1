//! What programs cannot do. Each test says what it ran, and aloud what it could not.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::{BOTH, config, has, launcher, open, score};
use dapo_code::{CodeReward, CodeScorer, Language, Sandbox};
use serde_json::json;

/// Runs a program against one test whose output is `ok`: whether it passed, and the seconds that it took.
fn passes(scorer: &CodeScorer, program: &str) -> (bool, f64) {
    let start = Instant::now();
    let value = score(scorer, program, &json!({"tests": [{"output": "ok"}]})).value.unwrap();
    (value == 1.0, start.elapsed().as_secs_f64())
}

/// Processes of this machine whose command line has this text.
fn processes_with(text: &str) -> usize {
    let folders = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = folders.filter_map(|folder| fs::read(folder.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(text)).count()
}

/// Runs a program in both sandboxes that must fail, and then one that must pass.
fn fails_everywhere(test: &str, base: &CodeReward, program: &str, limit_s: f64) {
    for sandbox in BOTH {
        let config = CodeReward { python: config(Language::Python, sandbox).python, sandbox, ..base.clone() };
        let Some(scorer) = open(test, &config) else { continue };
        let (has_passed, seconds) = passes(&scorer, program);
        assert!(!has_passed, "{sandbox:?}");
        assert!(seconds < limit_s, "{sandbox:?}: {seconds} s");
        assert!(passes(&scorer, "print('ok')").0, "{sandbox:?}");
    }
}

/// Without namespaces a user's processes count together: tests that make many run one after the other.
static FORKS: Mutex<()> = Mutex::new(());

fn short() -> CodeReward {
    CodeReward { timeout_s: 3.0, memory_mib: 128, ..CodeReward::default() }
}

#[test]
fn an_endless_loop_ends_at_the_time_limit() {
    fails_everywhere("an endless loop", &short(), "while True: pass", 12.0);
    fails_everywhere("an endless sleep", &short(), "import time\nprint('ok', flush=True)\ntime.sleep(1e6)", 12.0);
}

#[test]
fn a_fork_bomb_is_bounded_and_ends() {
    let _forks = FORKS.lock();
    let bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass";
    fails_everywhere("a fork bomb", &short(), bomb, 15.0);
    let chain = "import os\nwhile True:\n    if os.fork(): os._exit(0)\n    os.setsid()";
    fails_everywhere("a chain of forks", &short(), chain, 15.0);
}

#[test]
fn ten_gigabytes_of_output_fill_neither_memory_nor_disk() {
    let flood = "import os\nchunk = b'x' * (1 << 20)\nfor _ in range(10 << 10): os.write(STREAM, chunk)";
    for stream in ["1", "2"] {
        let config = CodeReward { timeout_s: 60.0, ..short() };
        fails_everywhere("10 GB of output", &config, &flood.replace("STREAM", stream), 15.0);
    }
    // A file: the limit ends the program or its write, long before the time does.
    let file =
        "with open('big', 'wb') as file:\n    for _ in range(10 << 10): file.write(b'x' * (1 << 20))\nprint('ok')";
    fails_everywhere("10 GB in a file", &CodeReward { timeout_s: 60.0, disk_mib: 64, ..short() }, file, 15.0);
}

#[test]
fn many_files_together_fill_no_more_than_the_folder() {
    let Some(scorer) = open("10 GB in many files", &CodeReward { timeout_s: 60.0, disk_mib: 64, ..short() }) else {
        return;
    };
    let files =
        "for i in range(10 << 10):\n    with open(f'f{i}', 'wb') as file: file.write(b'x' * (1 << 20))\nprint('ok')";
    let (has_passed, seconds) = passes(&scorer, files);
    assert!(!has_passed && seconds < 15.0, "{seconds} s");
}

#[test]
fn a_memory_bomb_ends_before_memory_does() {
    let bomb = "hold = []\nwhile True: hold.append(bytearray(1 << 20))";
    fails_everywhere("a memory bomb", &CodeReward { timeout_s: 60.0, ..short() }, bomb, 15.0);
    let _forks = FORKS.lock();
    // Each process stays below the limit, and so does what it counts as data; together they do not.
    let shared = "import mmap, os, time\nfor _ in range(40): os.fork() == 0 and (\n    (m := mmap.mmap(-1, 64 << 20)), \
                  m.write(b'x' * (64 << 20)), time.sleep(100))\ntime.sleep(100)";
    fails_everywhere("a memory bomb of many processes", &CodeReward { timeout_s: 60.0, ..short() }, shared, 15.0);
}

#[test]
fn nothing_that_a_program_starts_outlives_its_test() {
    let _forks = FORKS.lock();
    for (sandbox, marker) in BOTH.into_iter().zip(["98761.25", "98762.25"]) {
        let Some(scorer) = open("daemons", &config(Language::Python, sandbox)) else { continue };
        let daemon = format!(
            "import os\nfor _ in range(3):\n    if os.fork() == 0:\n        os.setsid()\n        if os.fork() == 0:\n            \
             os.execv('/bin/sleep', ['sleep', '{marker}'])\n        os._exit(0)\nimport time\ntime.sleep(0.3)\nprint('ok')"
        );
        let (has_passed, seconds) = passes(&scorer, &daemon);
        // They hold the output open, and the test ends all the same.
        assert!(has_passed && seconds < 4.0, "{sandbox:?}: {seconds} s");
        assert_eq!(processes_with(marker), 0, "{sandbox:?}");
    }
}

#[test]
fn programs_end_with_their_host() {
    // This test binary again, as a host that is killed in the middle of a test.
    const HOST: &str = "DAPO_CODE_TEST_HOST";
    if let Ok(sandbox) = std::env::var(HOST) {
        let sandbox = if sandbox == "Strict" { Sandbox::Strict } else { Sandbox::RlimitsOnly };
        let config = CodeReward { timeout_s: 600.0, ..config(Language::Python, sandbox) };
        let scorer = config.open("code", launcher()).unwrap();
        passes(&scorer, &format!("import os\nos.execv('/bin/sleep', ['sleep', '{}'])", marker(sandbox)));
        return;
    }
    for sandbox in BOTH {
        if open("a killed host", &config(Language::Python, sandbox)).is_none() {
            continue;
        }
        let mut host = Command::new(std::env::current_exe().unwrap());
        host.args(["--exact", "programs_end_with_their_host"]).env(HOST, format!("{sandbox:?}"));
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        host.env("TMPDIR", folder.path());
        let mut host = host.stdout(std::process::Stdio::null()).spawn().unwrap();
        let until = |count: usize| {
            let start = Instant::now();
            while processes_with(marker(sandbox)) != count {
                assert!(start.elapsed() < Duration::from_mins(1), "{sandbox:?}: never {count} processes");
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        until(1);
        host.kill().unwrap();
        host.wait().unwrap();
        until(0);
        let start = Instant::now();
        while fs::read_dir(folder.path()).unwrap().count() != 0 {
            assert!(start.elapsed() < Duration::from_mins(1), "{sandbox:?}: a folder is left");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn marker(sandbox: Sandbox) -> &'static str {
    if sandbox == Sandbox::Strict { "98763.25" } else { "98764.25" }
}

/// Prints `ok` when the statements raise an `OSError`.
fn denied(statements: &str) -> String {
    let body = statements.replace('\n', "\n    ");
    format!("try:\n    {body}\n    print('allowed')\nexcept OSError as error:\n    print('ok')")
}

fn strict(test: &str) -> Option<CodeScorer> {
    open(test, &config(Language::Python, Sandbox::Strict))
}

#[test]
fn a_strict_sandbox_has_no_home_folder_and_no_secrets() {
    let Some(scorer) = strict("reading the home folder") else { return };
    let home = std::env::home_dir().unwrap();
    let secret = tempfile::NamedTempFile::new_in(&home).unwrap();
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    for path in
        [secret.path(), &here, "/etc/shadow".as_ref(), "/etc/passwd".as_ref(), "/root/.ssh".as_ref(), "/var".as_ref()]
    {
        let read =
            denied(&format!("import os\nos.listdir({path:?}) if os.path.isdir({path:?}) else open({path:?}).read()"));
        assert!(passes(&scorer, &read).0, "{path:?}");
    }
    let listed = "import os\nprint('ok' if set(os.listdir('/')) <= {'usr', 'bin', 'sbin', 'lib', 'lib32', 'lib64', 'libx32', \
                  'etc', 'dev', 'proc', 'box', 'tmp', 'nix', 'gnu', TOP} else os.listdir('/'))";
    let python = String::from_utf8(
        Command::new("python3").args(["-c", "import sys; print(sys.prefix)"]).output().unwrap().stdout,
    );
    let top = format!("{:?}", python.unwrap().split('/').nth(1).unwrap());
    assert!(passes(&scorer, &listed.replace("TOP", &top)).0);
}

#[test]
fn programs_read_what_they_are_given_to_read() {
    let folder = tempfile::tempdir_in(std::env::home_dir().unwrap()).unwrap();
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let file = folder.path().join("words");
    fs::write(&file, "ok").unwrap();
    let read = format!("print(open({file:?}).read())");
    let base = config(Language::Python, Sandbox::Strict);
    let Some(scorer) = open("a given folder", &CodeReward { read: vec![folder.path().into()], ..base.clone() }) else {
        return;
    };
    assert!(passes(&scorer, &read).0);
    assert!(passes(&scorer, &denied(&format!("open({file:?}, 'w')"))).0);
    let Some(scorer) = open("no given folder", &base) else { return };
    assert!(!passes(&scorer, &read).0);
    let hidden = CodeReward { read: vec!["/tmp".into()], ..base }.open("code", launcher()).unwrap_err().to_string();
    assert_eq!(
        hidden,
        "\"/tmp\" cannot be shown in a strict sandbox, which has folders of its own at /box, /tmp, /dev, /proc"
    );
}

#[test]
fn a_strict_sandbox_shows_no_environment_and_no_other_process() {
    let Some(scorer) = strict("looking at the host") else { return };
    let environment = "import os\nprint('ok' if set(os.environ) <= {'HOME', 'TMPDIR', 'LANG', 'PATH', 'PYTHONHASHSEED', \
                       'PYTHONUTF8', 'LC_CTYPE'} else os.environ)";
    assert!(passes(&scorer, environment).0);
    let processes = "import os\npids = [name for name in os.listdir('/proc') if name.isdigit()]\nprint('ok' if len(pids) <= 2 else pids)";
    assert!(passes(&scorer, processes).0);
    assert!(passes(&scorer, &denied("open('/proc/1/environ').read()")).0);
    assert!(passes(&scorer, &denied("import os\nos.listdir('/proc/1/fd')")).0);
    assert!(passes(&scorer, &denied("open('/proc/1/mem', 'rb').read(1)")).0);
    let descriptors =
        "import os\nnames = {name for name in os.listdir('/proc/self/fd')}\nprint('ok' if len(names) <= 4 else names)";
    assert!(passes(&scorer, descriptors).0);
}

#[test]
fn a_strict_sandbox_has_no_network() {
    let Some(scorer) = strict("connecting out") else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for address in [format!("('127.0.0.1', {port})"), "('1.1.1.1', 53)".to_owned()] {
        let connect = format!("import socket\nsocket.create_connection({address}, timeout=2)");
        assert!(passes(&scorer, &denied(&connect)).0, "{address}");
    }
    assert!(passes(&scorer, &denied("import socket\nsocket.getaddrinfo('example.com', 80)")).0);
    // The host of a virtual machine, for which network namespaces are nothing.
    assert!(passes(&scorer, &denied("import socket\nsocket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)")).0);
    let send = "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('1.1.1.1', 53))";
    assert!(passes(&scorer, &denied(send)).0);
}

#[test]
fn a_strict_sandbox_cannot_kill_its_parent() {
    let Some(scorer) = strict("killing the parent") else { return };
    // The first process of its namespace ignores what comes from within.
    let kill = "import os, signal\nfor pid in (os.getppid(), 1):\n    for number in (9, 15, 19):\n        try: os.kill(pid, number)\n        \
                except OSError: pass\nprint('ok')";
    assert!(passes(&scorer, kill).0);
    let host = denied(&format!("import os\nos.kill({}, 9)", std::process::id()));
    assert!(passes(&scorer, &host).0);
    // To all: it kills what is of the program, and the next test is run as if nothing had been.
    let columns = json!({"tests": [{"input": "1", "output": "no"}, {"input": "0", "output": "ok"}]});
    let all = "import os\nif input() == '1': os.kill(-1, 9); os.kill(os.getpid(), 9)\nprint('ok')";
    assert_eq!(score(&scorer, all, &columns).value, Some(0.5));
}

#[test]
fn a_strict_sandbox_writes_nowhere_else() {
    let Some(scorer) = strict("writing outside") else { return };
    let outside = PathBuf::from("/tmp/dapo-code-outside");
    let write = format!("open({outside:?}, 'w').write('x')\nprint('ok')");
    // Its own folder for temporary files has the name of the system's.
    assert!(passes(&scorer, &write).0);
    assert!(!outside.exists());
    for path in [
        "/usr/bin/x",
        "/etc/x",
        "/x",
        "/box/x",
        "/box/program",
        "/dev/x",
        "/proc/sys/kernel/hostname",
        "/proc/1/oom_score_adj",
    ] {
        assert!(passes(&scorer, &denied(&format!("open({path:?}, 'w').write('x')"))).0, "{path}");
    }
}

#[test]
fn all_that_a_strict_sandbox_shows_is_mounted_read_only() {
    let Some(scorer) = strict("mounts") else { return };
    let flags = "import os, sys\nwanted = os.ST_RDONLY | os.ST_NOSUID\nshown = ['/', '/usr', '/box', sys.prefix, '/dev/null']\n\
                 open_ = [path for path in shown if os.statvfs(path).f_flag & wanted != wanted]\nprint(open_ or 'ok')";
    assert!(passes(&scorer, flags).0);
}

#[test]
fn a_strict_sandbox_gives_no_privileges() {
    let Some(scorer) = strict("privileges") else { return };
    let status = "lines = dict(line.split(':\\t') for line in open('/proc/self/status').read().splitlines() if ':\\t' in line)\n\
                  caps = {lines[name].strip('0') for name in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb')}\n\
                  print('ok' if caps == {''} and lines['NoNewPrivs'] == '1' and '\\t0' not in lines['Uid'] else lines)";
    assert!(passes(&scorer, status).0);
    let call = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nif (CALL) != -1: raise SystemExit('allowed')\nprint('ok')";
    for system_call in [
        "libc.mount(b'tmpfs', b'/tmp', b'tmpfs', 0, None)",
        "libc.umount2(b'/tmp', 2)",
        "libc.chroot(b'/tmp')",
        "libc.sethostname(b'x', 1)",
        "libc.setuid(0)",
        // A user namespace, and with it all privileges in there.
        "libc.unshare(0x10000000)",
        "libc.syscall(56, 0x10000011, 0, 0, 0, 0) if os.uname().machine == 'x86_64' else -1",
        // What namespaces do not confine: keys, and calls that no filter sees.
        "libc.syscall(250, 0, -3, 0) if os.uname().machine == 'x86_64' else -1",
        "libc.syscall(425, 4, ctypes.create_string_buffer(120))",
    ] {
        assert!(passes(&scorer, &call.replace("CALL", system_call)).0, "{system_call}");
    }
}

#[test]
fn tests_of_one_program_share_no_files() {
    for sandbox in BOTH {
        let Some(scorer) = open("files left behind", &config(Language::Python, sandbox)) else { continue };
        let program = "import os\nprint(len(os.listdir('.')))\nopen('left', 'w').write('x')";
        let columns = json!({"tests": [{"output": "0"}, {"output": "0"}, {"output": "0"}]});
        assert_eq!(score(&scorer, program, &columns).value, Some(1.0), "{sandbox:?}");
    }
}

#[test]
fn a_strict_sandbox_keeps_its_supervisors_limits() {
    let Some(scorer) = strict("the supervisor's limits") else { return };
    // The limits of the first process of the namespace, whose user may be that of the program.
    let limit = "import resource\nresource.prlimit(1, resource.RLIMIT_CPU, (1, 1))";
    assert!(passes(&scorer, &denied(limit)).0);
}

#[test]
fn without_a_layer_the_sandbox_is_refused_by_name() {
    let test = "a system without a layer";
    if !has("unshare") || strict(test).is_none() {
        println!("SKIPPED {test}: no unshare, or no namespaces to begin with");
        return;
    }
    // In a user namespace that may not have the namespace in question; the machine's own settings stay as they are.
    for (setting, layer) in [
        ("net", "network namespace"),
        ("pid", "process namespace"),
        ("ipc", "IPC namespace"),
        ("mnt", "mount namespace"),
        ("user", "user namespace"),
    ] {
        let script = format!(
            "echo 0 > /proc/sys/user/max_{setting}_namespaces && exec \"$0\" --exact --nocapture prints_why_it_is_refused"
        );
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c", &script]).arg(std::env::current_exe().unwrap());
        let output = command.env(PRINTS, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(&format!("the sandbox has no {layer} on this system: ")), "{setting}: {text}");
        assert!(text.contains("sandbox = \"rlimits-only\" runs programs without"), "{text}");
    }
}

const PRINTS: &str = "DAPO_CODE_TEST_PRINTS";

/// Not a test of its own: [`without_a_layer_the_sandbox_is_refused_by_name`] starts it where a layer is missing.
#[test]
fn prints_why_it_is_refused() {
    if std::env::var_os(PRINTS).is_some() {
        println!("{}", CodeReward::default().open("code", launcher()).unwrap_err());
    }
}

#[test]
fn a_program_that_is_no_launcher_is_named() {
    let error =
        config(Language::Python, Sandbox::Strict).open("code", dapo_code::Launcher::at("/bin/true")).unwrap_err();
    assert!(error.to_string().starts_with("the sandbox launcher \"/bin/true\" does not answer"), "{error}");
    let error = CodeReward::default().open("code", dapo_code::Launcher::at("/no/such")).unwrap_err();
    assert!(error.to_string().starts_with("the sandbox launcher \"/no/such\" cannot be started"), "{error}");
}
