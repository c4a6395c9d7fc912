//! One session with a server: settings pinned, statements and their answers as text, COPY both ways.

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use postgres_protocol::authentication::{md5_hash, sasl};
use secrecy::ExposeSecret;

use super::{
    Address, PgError,
    error::ServerSaid,
    message::{Row, framed, headline, parse_row, parse_said},
    wire::{Wire, cancel},
};
use crate::stop::{Stop, Stopped};

/// Settings that make text stable and nothing time out: what is read today has the same bytes anywhere else.
const PINNED: [(&str, &str); 15] = [
    ("client_encoding", "UTF8"),
    ("datestyle", "ISO, YMD"),
    ("intervalstyle", "postgres"),
    ("timezone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    // Rows hidden by a policy are an error, never a shorter answer.
    ("row_security", "off"),
    ("search_path", ""),
    ("standard_conforming_strings", "on"),
    ("client_min_messages", "warning"),
    ("synchronize_seqscans", "off"),
    // A fence of ours, or a person's, makes reading the default; what we write, we are meant to write.
    ("default_transaction_read_only", "off"),
    // Questions about the catalog look dear to the planner; compiling them takes seconds, running them milliseconds.
    ("jit", "off"),
];

/// Bytes of a COPY that are sent at once.
const COPY_BYTES: usize = 64 << 10;

/// One session. Ended when dropped.
pub struct Session {
    wire: Wire,
    address: Address,
    stop: Stop,
    process: u32,
    key: Vec<u8>,
    parameters: BTreeMap<String, String>,
    notices: Vec<String>,
    /// Whether the connection can be used for another statement.
    broken: bool,
}

impl Session {
    /// Connects, proves who we are and pins the settings.
    ///
    /// # Errors
    /// [`PgError::Unreachable`], [`PgError::Tls`], [`PgError::NotLetIn`].
    pub fn open(address: &Address, stop: &Stop) -> Result<Session, PgError> {
        let wire = Wire::open(address, stop)?;
        let mut session = Session {
            wire,
            address: address.clone(),
            stop: stop.clone(),
            process: 0,
            key: Vec::new(),
            parameters: BTreeMap::new(),
            notices: Vec::new(),
            broken: false,
        };
        session.greet()?;
        let pins: Vec<String> = PINNED.iter().map(|(name, value)| format!("SET {name} = '{value}'")).collect();
        session.run(&pins.join("; "))?;
        Ok(session)
    }

    /// Another session at the same place.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn another(&self) -> Result<Session, PgError> {
        Session::open(&self.address, &self.stop)
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The server's version as a number: 150018 for 15.18.
    pub fn version(&self) -> u32 {
        let text = self.parameters.get("server_version").map_or("", String::as_str);
        let mut numbers = text.split(|letter: char| !letter.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
        numbers.next().unwrap_or(0) * 10_000 + numbers.next().unwrap_or(0)
    }

    /// The server's major version.
    pub fn major(&self) -> u32 {
        self.version() / 10_000
    }

    /// What the server said of itself when we came: `server_encoding`, `is_superuser`, ...
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// The number of the server's process.
    pub fn process(&self) -> u32 {
        self.process
    }

    /// Whether the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.wire.is_encrypted()
    }

    /// Warnings since the last call.
    pub fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// Runs statements; what they answer is not looked at.
    ///
    /// # Errors
    /// [`PgError::Refused`] with the first that failed; [`PgError::Lost`]; [`PgError::Stopped`], after the server was
    /// asked to cancel it.
    pub fn run(&mut self, sql: &str) -> Result<(), PgError> {
        self.ask(sql).map(drop)
    }

    /// Runs statements and gives back all rows.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn ask(&mut self, sql: &str) -> Result<Vec<Row>, PgError> {
        let mut rows = Vec::new();
        self.send_query(sql)?;
        self.answer(sql, |letter, body| {
            if letter == b'D' {
                rows.extend(parse_row(body));
            }
        })?;
        Ok(rows)
    }

    /// The first row of an answer.
    ///
    /// # Errors
    /// As [`Session::run`]; [`PgError::Protocol`] when there is none.
    pub fn one(&mut self, sql: &str) -> Result<Row, PgError> {
        let first = self.ask(sql)?.into_iter().next();
        first.ok_or_else(|| self.nonsense(format!("no row for {}", headline(sql))))
    }

    /// The first field of the first row, as text; empty when null.
    ///
    /// # Errors
    /// As [`Session::one`].
    pub fn value(&mut self, sql: &str) -> Result<String, PgError> {
        Ok(self.one(sql)?.text(0).to_owned())
    }

    /// Runs `COPY ... TO STDOUT` and hands over each message: one row, or a part of one where something in between cut
    /// it differently. An error of the taker ends the session.
    ///
    /// # Errors
    /// As [`Session::run`]; [`PgError::Ours`] with the taker's error.
    pub fn copy_out(&mut self, sql: &str, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> Result<(), PgError> {
        let mut taken = Ok(());
        self.send_query(sql)?;
        let ended = loop {
            match self.wire.receive() {
                Ok((b'd', body)) => {
                    taken = take(body);
                    if taken.is_err() {
                        break Ok(());
                    }
                }
                Ok((b'Z', _)) => break Ok(()),
                Ok((b'E', body)) => {
                    let said = Box::new(parse_said(body));
                    self.answer(sql, |_, _| ())?;
                    break Err(PgError::Refused { doing: headline(sql).into_owned(), said });
                }
                Ok(_) => {}
                Err(error) => break Err(self.lost(sql, error)),
            }
        };
        if let Err(source) = taken {
            self.give_up();
            let stopped = source.get_ref().is_some_and(|inner| inner.is::<Stopped>());
            let doing = format!("write what {} gives", headline(sql));
            return Err(if stopped { PgError::Stopped(Stopped) } else { PgError::Ours { doing, source } });
        }
        ended
    }

    /// Runs `COPY ... FROM STDIN` with what `source` gives, and says how many bytes went over. When reading fails, the
    /// COPY fails as a whole.
    ///
    /// # Errors
    /// As [`Session::run`]; [`PgError::Ours`] when reading failed.
    pub fn copy_in(&mut self, sql: &str, source: &mut dyn Read, told: &dyn Fn(u64)) -> Result<u64, PgError> {
        self.send_query(sql)?;
        loop {
            match self.wire.receive() {
                Ok((b'G', _)) => break,
                Ok((b'E', body)) => {
                    let said = Box::new(parse_said(body));
                    self.answer(sql, |_, _| ())?;
                    return Err(PgError::Refused { doing: headline(sql).into_owned(), said });
                }
                Ok((b'Z', _)) => return Err(self.nonsense(format!("no COPY for {}", headline(sql)))),
                Ok(_) => {}
                Err(error) => return Err(self.lost(sql, error)),
            }
        }
        let mut message = vec![0; 5 + COPY_BYTES];
        let mut bytes = 0;
        let failed = loop {
            let read = match source.read(&mut message[5..]) {
                Ok(0) => break None,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => break Some(error),
            };
            message[0] = b'd';
            message[1..5].copy_from_slice(&(read as u32 + 4).to_be_bytes());
            self.wire.send(&message[..5 + read]).map_err(|error| self.lost(sql, error))?;
            bytes += read as u64;
            told(bytes);
            if self.wire.has_something() {
                break None; // it objects; its reason comes with the end
            }
        };
        let end = if failed.is_some() { framed(b'f', b"the source failed\0") } else { framed(b'c', b"") };
        self.wire.send(&end).map_err(|error| self.lost(sql, error))?;
        let answered = self.answer(sql, |_, _| ());
        match failed {
            Some(source) => Err(PgError::Ours { doing: format!("read what {} needs", headline(sql)), source }),
            None => answered.map(|()| bytes),
        }
    }

    /// Runs statements with one or more `COPY ... FROM STDIN` among them, all in one message and one round trip: what each
    /// COPY gets is sent without waiting for the server to ask for it. When a statement fails, the server does not look at
    /// what follows.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_with(&mut self, sql: &str, data: &[&[u8]]) -> Result<(), PgError> {
        self.send_query(sql)?;
        let mut message = Vec::with_capacity(5 + COPY_BYTES);
        for rows in data {
            for piece in rows.chunks(COPY_BYTES) {
                message.clear();
                message.push(b'd');
                message.extend((piece.len() as u32 + 4).to_be_bytes());
                message.extend(piece);
                self.wire.send(&message).map_err(|error| self.lost(sql, error))?;
            }
            self.wire.send(&framed(b'c', b"")).map_err(|error| self.lost(sql, error))?;
        }
        self.answer(sql, |_, _| ())
    }

    /// Runs `work` in a transaction: committed when it succeeds, else rolled back.
    ///
    /// # Errors
    /// Those of `work`, of the beginning and of the end.
    pub fn transaction<T>(
        &mut self,
        begin: &str,
        work: impl FnOnce(&mut Session) -> Result<T, PgError>,
    ) -> Result<T, PgError> {
        self.run(begin)?;
        match work(self) {
            Ok(done) => self.run("COMMIT").map(|()| done),
            Err(error) => {
                // The error that ended the work is the one to tell; a lost connection rolls back by itself.
                let _ = self.run("ROLLBACK");
                Err(error)
            }
        }
    }

    fn greet(&mut self) -> Result<(), PgError> {
        let mut body = Vec::from(196_608_u32.to_be_bytes());
        let address = self.address.clone();
        let mut pairs =
            vec![("user", address.user.as_str()), ("database", &address.database), ("application_name", "lifeboat")];
        pairs.extend(address.options.as_deref().map(|options| ("options", options)));
        for (name, value) in pairs {
            body.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
        }
        body.push(0);
        let mut message = Vec::from((body.len() as u32 + 4).to_be_bytes());
        message.extend(body);
        self.send(&message)?;
        let mut scram = None;
        loop {
            let to = self.address.to_string();
            let (letter, body) = match self.wire.receive() {
                Ok((letter, body)) => (letter, body.to_vec()),
                Err(error) => return Err(self.not_greeted(error)),
            };
            match letter {
                b'R' => self.prove(&body, &mut scram)?,
                b'E' => return Err(PgError::NotLetIn { to, said: Box::new(parse_said(&body)) }),
                b'K' if body.len() >= 8 => {
                    self.process = u32::from_be_bytes([body[0], body[1], body[2], body[3]]);
                    self.key = body[4..].to_vec();
                }
                b'S' => self.note_parameter(&body),
                b'Z' => return Ok(()),
                _ => {}
            }
        }
    }

    /// Answers one question about who we are.
    fn prove(&mut self, body: &[u8], scram: &mut Option<sasl::ScramSha256>) -> Result<(), PgError> {
        let to = self.address.to_string();
        let (kind, rest) = body.split_at(body.len().min(4));
        let password = match &self.address.password {
            Some(secret) => secret.expose_secret().as_bytes().to_vec(),
            None if kind == [0, 0, 0, 0] => Vec::new(),
            None => {
                let message = "it asks for a password, and none was given".into();
                return Err(PgError::NotLetIn {
                    to,
                    said: Box::new(ServerSaid { code: "28P01".into(), message, ..ServerSaid::default() }),
                });
            }
        };
        let failed = |error: io::Error| PgError::Protocol { to: to.clone(), found: error.to_string() };
        match (u32::from_be_bytes(kind.try_into().unwrap_or_default()), scram.as_mut()) {
            (0, _) => Ok(()),
            // A password that goes over the wire as it is, goes over an encrypted wire or a socket only.
            (3, _) if self.wire.is_encrypted() || self.address.is_socket() => {
                self.send(&framed(b'p', &[&password[..], b"\0"].concat()))
            }
            (3, _) => {
                Err(PgError::Tls { to, found: "it asks for the password in clear text; use sslmode=require".into() })
            }
            (5, _) if rest.len() >= 4 => {
                let salt = [rest[0], rest[1], rest[2], rest[3]];
                let hash = md5_hash(self.address.user.as_bytes(), &password, salt);
                self.send(&framed(b'p', &[hash.as_bytes(), b"\0"].concat()))
            }
            (10, _) => {
                let begun = sasl::ScramSha256::new(&password, sasl::ChannelBinding::unsupported());
                let mut answer = Vec::from(b"SCRAM-SHA-256\0");
                answer.extend((begun.message().len() as u32).to_be_bytes());
                answer.extend(begun.message());
                *scram = Some(begun);
                self.send(&framed(b'p', &answer))
            }
            (11, Some(begun)) => {
                begun.update(rest).map_err(failed)?;
                let answer = framed(b'p', begun.message());
                self.send(&answer)
            }
            (12, Some(begun)) => begun.finish(rest).map_err(failed),
            (other, _) => {
                let found = format!("it asks for a way of logging in that we do not know (number {other})");
                Err(PgError::Protocol { to, found })
            }
        }
    }

    /// Reads messages until the server is ready again.
    fn answer(&mut self, sql: &str, mut each: impl FnMut(u8, &[u8])) -> Result<(), PgError> {
        let mut refused = None;
        loop {
            match self.wire.receive() {
                Ok((b'Z', _)) => break,
                Ok((b'E', body)) => refused = refused.or_else(|| Some(parse_said(body))),
                Ok((b'N', body)) => {
                    let notice = parse_said(body).message;
                    self.notices.push(notice);
                }
                Ok((b'S', body)) => {
                    let body = body.to_vec();
                    self.note_parameter(&body);
                }
                Ok((letter, body)) => each(letter, body),
                // What a dying server said is more than that it died.
                Err(error) => match refused {
                    Some(said) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        self.broken = true;
                        return Err(PgError::Refused { doing: headline(sql).into_owned(), said: Box::new(said) });
                    }
                    _ => return Err(self.lost(sql, error)),
                },
            }
        }
        match refused {
            Some(said) => Err(PgError::Refused { doing: headline(sql).into_owned(), said: Box::new(said) }),
            None => Ok(()),
        }
    }

    fn note_parameter(&mut self, body: &[u8]) {
        let mut parts = body.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned());
        if let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            self.parameters.insert(name, value);
        }
    }

    fn send_query(&mut self, sql: &str) -> Result<(), PgError> {
        self.stop.check()?;
        if self.broken {
            return Err(self.lost(sql, io::ErrorKind::NotConnected.into()));
        }
        let message = framed(b'Q', &[sql.as_bytes(), b"\0"].concat());
        self.wire.send(&message).map_err(|error| self.lost(sql, error))
    }

    fn send(&mut self, message: &[u8]) -> Result<(), PgError> {
        self.wire.send(message).map_err(|error| self.not_greeted(error))
    }

    /// A connection that ends before it began: the server's end, or a certificate we do not trust.
    fn not_greeted(&self, error: io::Error) -> PgError {
        let to = self.address.to_string();
        if error.get_ref().is_some_and(|inner| inner.is::<Stopped>()) {
            return PgError::Stopped(Stopped);
        }
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(found) => PgError::Tls { to, found: found.to_string() },
            None => PgError::Unreachable { to, source: error },
        }
    }

    /// Why nothing more comes: asked to stop (then the server is told to end it too), or the connection broke.
    fn lost(&mut self, sql: &str, error: io::Error) -> PgError {
        self.broken = true;
        if error.get_ref().is_some_and(|inner| inner.is::<Stopped>()) {
            self.give_up();
            return PgError::Stopped(Stopped);
        }
        PgError::Lost { to: self.address.to_string(), doing: headline(sql).into_owned(), source: error }
    }

    /// Has the server end what it is doing for us, so that nothing of ours runs on when we are gone.
    fn give_up(&mut self) {
        self.broken = true;
        // The connection closes with us in any case; the server notices that at its next write.
        let _ = cancel(&self.address, self.process, &self.key);
    }

    fn nonsense(&self, found: String) -> PgError {
        PgError::Protocol { to: self.address.to_string(), found }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.broken {
            let _ = self.wire.send(&framed(b'X', b"")); // a courtesy; closing the socket says the same
        }
    }
}
