//! The page for people while the app is closed or does not answer: one file, nothing is loaded, it asks again by itself.

/// The page: which app, when it is expected to be back where that is known, and when this page asks again.
pub fn page(app: &str, eta: Option<&str>, retry_after_s: u64) -> String {
    let app = escaped(app);
    let eta = eta.map(|eta| format!("<p role=\"status\">ETA: {}</p>\n", escaped(eta))).unwrap_or_default();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"refresh\" content=\"{retry_after_s}\">\n<title>{app} is temporarily unavailable</title>\n<style>\n\
         body {{ font: 1.1rem/1.5 system-ui, sans-serif; margin: 15vh auto; max-width: 32rem; padding: 0 1rem;\n\
         color: #222; background: #fafafa; }}\n\
         @media (prefers-color-scheme: dark) {{ body {{ color: #ddd; background: #181818; }} }}\n</style>\n</head>\n\
         <body>\n<main>\n<h1>{app} is temporarily unavailable</h1>\n{eta}\
         <p>This page asks again by itself in {retry_after_s} seconds.</p>\n</main>\n</body>\n</html>\n"
    )
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mpg_01_and_06_it_names_the_app_and_what_somebody_wrote_stays_text() {
        let shown = page("LearnPlay", Some("2 hours"), 30);
        assert!(shown.contains("<h1>LearnPlay is temporarily unavailable</h1>") && shown.contains("ETA: 2 hours"));
        let shown = page("<script>\"&\"", None, 30);
        assert!(shown.contains("<h1>&lt;script&gt;&quot;&amp;&quot; is") && !shown.contains("ETA"), "{shown}");
        assert!(shown.contains("content=\"30\""), "{shown}");
    }
}
