//! Servers to try rewards with, on a free port of this machine.
//!
//! ```text
//! scripts/test-servers [ok | busy | down | nonsense | stall]
//! ```
//!
//! `ok` answers, `busy` answers every second attempt and asks to wait before it, `down` answers with the status 503,
//! `nonsense` with what is no reward, and `stall` with nothing. No model judges: a completion's length decides.

#[path = "../tests/common/server.rs"]
mod server;

use std::error::Error;
use std::{env, thread};

use serde_json::{Value, json};
use server::{Do, Request, Server};

fn main() -> Result<(), Box<dyn Error>> {
    let mode = env::args().nth(1).unwrap_or_else(|| "ok".to_owned());
    if !["ok", "busy", "down", "nonsense", "stall"].contains(&&*mode) {
        return Err(format!("the mode is {mode:?}, expected ok, busy, down, nonsense or stall").into());
    }
    let kind = mode.clone();
    let server = Server::of(move |number, request| match &*kind {
        "busy" if number.is_multiple_of(2) => Do::Later(1),
        "down" => Do::Reply(503, "down".to_owned()),
        "stall" => Do::Stall,
        kind => answer(request, kind == "nonsense"),
    })?;
    let base = format!("http://{}", server.address);
    println!("{mode}, until it is interrupted:");
    println!("  rewards.mine.url={base}/score");
    println!("  rewards.mine.url={base}/openrlhf rewards.mine.dialect=openrlhf");
    println!("  rewards.mine.judge_url={base}/v1 rewards.mine.model=any");
    println!("  rewards.mine.judge_url={base}/v1 rewards.mine.model=any rewards.mine.mode=ranking");
    let mut seen = 0;
    loop {
        thread::sleep(std::time::Duration::from_secs(1));
        let requests = server.requests();
        for request in &requests[seen..] {
            println!("{} {}", request.path(), request.body);
        }
        seen = requests.len();
    }
}

fn answer(request: &Request, is_nonsense: bool) -> Do {
    let (path, body) = (request.path(), &request.body);
    let values = |texts: &Value| {
        let value =
            |text: &Value| json!(f64::from(u8::try_from(text.as_str().unwrap_or("").len() % 11).unwrap_or(0)) / 10.0);
        texts.as_array().into_iter().flatten().map(value).collect::<Vec<_>>()
    };
    let reply = match path {
        _ if is_nonsense && path != "/v1/chat/completions" => json!({"rewards": "plenty"}),
        "/score" => {
            let texts = body["samples"].as_array().into_iter().flatten().map(|sample| sample["completion"].clone());
            json!({"id": body["id"], "rewards": values(&texts.collect())})
        }
        "/openrlhf" => json!({"rewards": values(&body["query"])}),
        "/v1/chat/completions" => {
            let question =
                body["messages"].as_array().and_then(|all| all.last()).map_or(&Value::Null, |m| &m["content"]);
            let question = question.as_str().unwrap_or_default();
            let count = question.matches("<answer number=").count();
            let text = match count {
                _ if is_nonsense => "I like it.".to_owned(),
                0 => (question.len() % 11).to_string(),
                count => format!("{:?}", (1..=count).rev().collect::<Vec<_>>()),
            };
            let usage = json!({"prompt_tokens": question.len() / 4, "completion_tokens": text.len()});
            json!({"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}], "usage": usage})
        }
        _ => return Do::Reply(404, "expected /score, /openrlhf or /v1/chat/completions".to_owned()),
    };
    Do::Reply(200, reply.to_string())
}
