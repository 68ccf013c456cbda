//! Good files of every format, changed in a fixed number of ways and fed to the library: no panic, no more than 1 GiB, at
//! most 5 s each, and an error of one line or a result. `docs/reliability.md` says how it is run for longer.

use std::alloc::System;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use align_check_tests::hostile::{FORMATS, Format, committed, mutated};
use align_check_tests::{Random, asked, differential, say};
use cap::Cap;

/// Counts what lives; the process ends where a file asks for more than four times what it may.
#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, 4 << 30);

/// What the cases in flight may take together, beside what was there before.
const BYTES: usize = 1 << 30;

/// What one case may take, in seconds.
const SECONDS: usize = 5;

/// Another number of seconds, where other work shares the machine.
const PATIENCE: &str = "ALIGN_CHECK_SECONDS";

/// After so many times of what it may take, nobody waits for it any more.
const HANGS: u32 = 24;

/// Mutations of each format, and of each of its files at least.
const EACH: usize = 600;
const PER_FILE: usize = 3;

/// Multiplies the mutations.
const MORE: &str = "ALIGN_CHECK_MUTATIONS";

/// Longest good file that a fuzzer starts with, `-max_len` of `fuzz/run`.
const SEED_BYTES: usize = 20_000;

/// Panics where two ways of computing differ on a case that bytes spell.
type Differential = fn(&[u8]);

/// The fuzz targets that are of no format.
const DIFFERENTIAL: [(&str, Differential); 2] = [
    ("convolution", differential::convolution),
    ("multiplier", differential::multiplier),
];

/// Only this format.
const ONLY: &str = "ALIGN_CHECK_FORMAT";

/// Says each case before it is fed: which one ended the process.
const SAY: &str = "ALIGN_CHECK_SAY";

/// One case: a format, the number of its good file, and the number of the mutation.
#[derive(Debug, Clone, Copy)]
struct Case {
    format: usize,
    file: usize,
    number: usize,
}

impl Case {
    fn bytes(self, seeds: &[Vec<Vec<u8>>]) -> Vec<u8> {
        let good = &seeds[self.format];
        let seed = (self.format << 48) | (self.file << 32) | self.number;
        let mut random = Random(seed as u64);
        let other = &good[random.below(good.len())];
        mutated(
            &good[self.file],
            other,
            FORMATS[self.format].text,
            &mut random,
        )
    }
}

fn patience() -> Duration {
    Duration::from_secs(asked(PATIENCE).unwrap_or(SECONDS) as u64)
}

/// What is wrong with a case, if anything; and whether there was a result.
fn verdict(format: &Format, bytes: &[u8]) -> Result<bool, String> {
    let most = patience();
    let before = Instant::now();
    let fed = catch_unwind(AssertUnwindSafe(|| (format.feed)(bytes)));
    let took = before.elapsed();
    match fed {
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("panic: {}", text.unwrap_or("?")))
        }
        Ok(_) if took > most => Err(format!("took {took:?}")),
        Ok(outcome) => Ok(outcome.is_ok()),
    }
}

#[test]
fn mutated_files_end_in_order() {
    let more = asked(MORE).unwrap_or(1);
    let only = std::env::var(ONLY).ok();
    let says = std::env::var_os(SAY).is_some();
    let wanted = |format: &Format| only.as_ref().is_none_or(|only| only == format.name);
    let seeds: Vec<Vec<Vec<u8>>> = FORMATS
        .iter()
        .map(|format| {
            if wanted(format) {
                (format.seeds)()
            } else {
                Vec::new()
            }
        })
        .collect();
    let mut cases = Vec::new();
    for (format, files) in seeds.iter().enumerate() {
        assert!(
            !files.is_empty() || !wanted(&FORMATS[format]),
            "no good file"
        );
        let each = (EACH / files.len().max(1)).max(PER_FILE) * more;
        for file in 0..files.len() {
            cases.extend((0..each).map(|number| Case {
                format,
                file,
                number,
            }));
        }
    }
    // A panic is told once, with its case.
    std::panic::set_hook(Box::new(|_| {}));
    let next = AtomicUsize::new(0);
    let done = AtomicBool::new(false);
    let before = MEMORY.allocated();
    let wrong = Mutex::new(Vec::new());
    let counts = Mutex::new(BTreeMap::<&str, [usize; 2]>::new());
    let longest = Mutex::new((Duration::ZERO, None));
    let workers = 2;
    let flying: Vec<Mutex<Option<(Instant, Case)>>> =
        (0..workers).map(|_| Mutex::default()).collect();
    std::thread::scope(|scope| {
        let working: Vec<_> = flying
            .iter()
            .map(|flying| {
                scope.spawn(|| {
                    while let Some(&case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let format = &FORMATS[case.format];
                        let bytes = case.bytes(&seeds);
                        if says {
                            say(format_args!("{} {case:?}", format.name));
                        }
                        let start = Instant::now();
                        *flying.lock().expect("no panic") = Some((start, case));
                        let mut found = verdict(format, &bytes);
                        let took = start.elapsed();
                        *flying.lock().expect("no panic") = None;
                        if MEMORY.max_allocated() > before + BYTES {
                            found = Err("more than 1 GiB, it or the one beside it".to_owned());
                        }
                        let mut longest = longest.lock().expect("no panic");
                        if took > longest.0 {
                            *longest = (took, Some((format.name, case)));
                        }
                        drop(longest);
                        match found {
                            Ok(result) => {
                                let mut counts = counts.lock().expect("no panic");
                                counts.entry(format.name).or_default()[usize::from(result)] += 1;
                            }
                            Err(what) => {
                                let mut wrong = wrong.lock().expect("no panic");
                                wrong.push(format!("{} {case:?}: {what}", format.name));
                                if wrong.len() > 20 {
                                    next.store(cases.len(), Ordering::Relaxed);
                                }
                                if let Some(folder) = std::env::var_os("ALIGN_CHECK_KEEP") {
                                    let name =
                                        format!("{}-{}-{}", format.name, case.file, case.number);
                                    let path = std::path::Path::new(&folder).join(name);
                                    std::fs::write(path, &bytes).expect("a writable folder");
                                }
                            }
                        }
                    }
                })
            })
            .collect();
        // A hang ends the process, and says which case it was.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(20));
                for flying in &flying {
                    let flying = *flying.lock().expect("no panic");
                    if let Some((start, case)) = flying
                        && start.elapsed() > patience() * HANGS
                    {
                        say(format_args!(
                            "hangs: {} {case:?}",
                            FORMATS[case.format].name
                        ));
                        std::process::exit(101);
                    }
                }
            }
        });
        for worker in working {
            worker.join().expect("a worker ends");
        }
        done.store(true, Ordering::Relaxed);
    });
    let _ = std::panic::take_hook();
    let counts = counts.into_inner().expect("no panic");
    for (name, [errors, results]) in &counts {
        say(format_args!("{name}: {errors} errors, {results} results"));
    }
    let total: usize = counts.values().flatten().sum();
    say(format_args!(
        "{total} mutated files; at most {} MiB; the longest {:?}",
        (MEMORY.max_allocated() - before) >> 20,
        longest.into_inner().expect("no panic")
    ));
    let wrong = wrong.into_inner().expect("no panic");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn fast_paths_equal_their_definitions() {
    let mut random = Random(1);
    for _ in 0..3000 * asked(MORE).unwrap_or(1) {
        let bytes: Vec<u8> = (0..64 + random.below(200))
            .map(|_| random.number() as u8)
            .collect();
        differential::convolution(&bytes);
        differential::multiplier(&bytes);
    }
}

#[test]
fn good_files_are_good() {
    for format in &FORMATS {
        for good in (format.seeds)().iter().take(3) {
            verdict(format, good).unwrap_or_else(|what| panic!("{}: {what}", format.name));
        }
    }
}

#[test]
fn what_fuzzing_found_ends_in_order() {
    let replay = |name: &str, feed: &dyn Fn(&[u8]) -> Result<(), String>| {
        let found = committed(name);
        for (path, bytes) in &found {
            feed(bytes).unwrap_or_else(|what| panic!("{}: {what}", path.display()));
        }
        found.len()
    };
    let mut files = 0;
    for format in &FORMATS {
        files += replay(format.name, &|bytes| verdict(format, bytes).map(drop));
    }
    for (name, differs) in DIFFERENTIAL {
        files += replay(name, &|bytes| {
            differs(bytes);
            Ok(())
        });
    }
    say(format_args!("{files} files of fuzz/"));
    assert!(files > 0, "fuzz/ has files");
}

/// Good files as a fuzzer's first corpus: `ALIGN_CHECK_SEEDS=FOLDER`.
#[test]
#[ignore = "writes files, for fuzz/"]
fn write_seeds() {
    let folder = std::env::var_os("ALIGN_CHECK_SEEDS").expect("ALIGN_CHECK_SEEDS=FOLDER");
    for format in &FORMATS {
        let to = std::path::Path::new(&folder).join(format.name);
        std::fs::create_dir_all(&to).expect("a writable folder");
        for (number, good) in (format.seeds)().iter().enumerate() {
            // What is longer than a fuzzer's inputs is cut by it, and then nothing good any more.
            if good.len() <= SEED_BYTES {
                std::fs::write(to.join(number.to_string()), good).expect("a writable folder");
            }
        }
    }
}
