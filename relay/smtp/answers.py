"""The replies that are always the same, built once (codes: RFC 5321 section 4.2.2; statuses: RFC 3463)."""

from __future__ import annotations

from typing import Final

from relay.mail.reply import Reply

SENDER_OK: Final = Reply.of(250, "2.1.0", "Sender ok")
RECIPIENT_OK: Final = Reply.of(250, "2.1.5", "Recipient ok")
SEND_CONTENT: Final = Reply.of(354, None, "End data with <CR><LF>.<CR><LF>")
FLUSHED: Final = Reply.of(250, "2.0.0", "Flushed")
NOTHING_DONE: Final = Reply.of(250, "2.0.0", "Ok")
CANNOT_VERIFY: Final = Reply.of(252, "2.5.0", "Cannot verify the user, but will take mail and try to deliver it")

UNKNOWN_COMMAND: Final = Reply.of(500, "5.5.2", "Command not recognized")
NOT_IMPLEMENTED: Final = Reply.of(502, "5.5.1", "Command not implemented")
NOT_SMTP: Final = Reply.of(421, "4.7.0", "This is a mail server, you seem to speak another protocol")
LINE_TOO_LONG: Final = Reply.of(500, "5.5.2", "Command line too long")
LINES_TOO_LONG: Final = Reply.of(421, "4.7.0", "Command lines too long, closing")
NEWLINE_ALONE: Final = Reply.of(421, "4.5.2", "Lines must end with CR LF, closing")
CONTROL_CHARACTERS: Final = Reply.of(501, "5.5.2", "Control characters are not allowed in a command")
NOT_UTF8: Final = Reply.of(501, "5.5.2", "The command is neither ASCII nor valid UTF-8")
NO_ARGUMENTS: Final = Reply.of(501, "5.5.4", "This command takes no arguments")

HELLO_FIRST: Final = Reply.of(503, "5.5.1", "Say HELO or EHLO first")
LHLO_FIRST: Final = Reply.of(503, "5.5.1", "Say LHLO first")
MAIL_FIRST: Final = Reply.of(503, "5.5.1", "Say MAIL first")
RECIPIENT_FIRST: Final = Reply.of(503, "5.5.1", "No valid recipients: say RCPT first")
NESTED_MAIL: Final = Reply.of(503, "5.5.1", "A transaction is open already: RSET ends it")
ONLY_CHUNKS: Final = Reply.of(503, "5.5.1", "Content has begun by BDAT: only BDAT goes on with it")
ONLY_QUIT: Final = Reply.of(503, "5.5.1", "You were not welcome: say QUIT")

#: RFC 6531 section 3.5 has a code for each of the two commands.
SENDER_NEEDS_SMTPUTF8: Final = Reply.of(550, "5.6.7", "The address is not ASCII: say SMTPUTF8 with MAIL")
RECIPIENT_NEEDS_SMTPUTF8: Final = Reply.of(553, "5.6.7", "The address is not ASCII: say SMTPUTF8 with MAIL")
TOO_MANY_RECIPIENTS: Final = Reply.of(452, "4.5.3", "Too many recipients in one transaction")
#: What is asked about the content of a message is asked for all of its recipients, so it has to be the same.
OTHER_POLICIES: Final = Reply.of(452, "4.5.3", "Other policies hold for this recipient: send it a copy of its own")
RECIPIENTS_DIFFER: Final = Reply.of(451, "4.7.1", "Not all recipients take this message: send each a copy of its own")
CONTENT_OK: Final = Reply.of(250, "2.0.0", "Ok")
TOO_MANY_MESSAGES: Final = Reply.of(421, "4.7.0", "Too many messages on one connection, please reconnect")
TOO_MANY_ERRORS: Final = Reply.of(421, "4.7.0", "Too many errors, closing")
TOO_MUCH_IDLING: Final = Reply.of(421, "4.7.0", "Too many commands without a message, closing")

MESSAGE_TOO_LARGE: Final = Reply.of(552, "5.3.4", "Message too large")
MUCH_TOO_LARGE: Final = Reply.of(421, "4.3.4", "Message much too large, closing")
MALFORMED_BDAT: Final = Reply.of(421, "4.5.4", "Malformed BDAT: what follows cannot be told from commands, closing")
NO_CHUNKING: Final = Reply.of(421, "4.5.1", "BDAT is not offered here, closing")
TOO_MANY_CHUNKS: Final = Reply.of(552, "5.3.4", "Too many chunks in one message")
BARE_NEWLINE: Final = Reply.of(550, "5.6.0", "The content has a CR or LF that is not part of CR LF")
CONTENT_LINE_TOO_LONG: Final = Reply.of(554, "5.6.0", "A line of the content is too long")

#: RFC 3207 section 4.
GO_AHEAD: Final = Reply.of(220, "2.0.0", "Ready to start TLS")
TLS_FIRST: Final = Reply.of(530, "5.7.0", "Say STARTTLS first")
TLS_ALREADY: Final = Reply.of(503, "5.5.1", "TLS is active already")
#: Whatever it is, it was said in clear (RFC 3207 section 4.2 has it forgotten), and may be somebody else's.
BEHIND_STARTTLS: Final = Reply.of(421, "4.7.0", "Something was said behind STARTTLS, closing")
#: RFC 4954 sections 4 and 6.
AUTH_FIRST: Final = Reply.of(530, "5.7.0", "Authentication required")
AUTH_ALREADY: Final = Reply.of(503, "5.5.1", "You are authenticated already")
NO_AUTH: Final = Reply.of(502, "5.5.1", "Authentication is not offered here")
TOO_MANY_FAILURES: Final = Reply.of(421, "4.7.0", "Too many failed authentications, closing")
NOT_FOR_YOU: Final = Reply.of(550, "5.7.1", "You may not say this here")
LMTP_HERE: Final = Reply.of(500, "5.5.1", "This is LMTP: say LHLO")
ONLY_BDAT: Final = Reply.of(503, "5.5.1", "Content of BODY=BINARYMIME comes by BDAT")
#: Who talks out of turn does not listen.
OUT_OF_TURN: Final = Reply.of(554, "5.5.0", "You talk before it is your turn, closing")
#: draft-hall-prdr: replies about each recipient follow, and then the one about all.
EACH_FOLLOWS: Final = Reply.of(353, None, "What became of each recipient follows")
HOLD_IS_HOLD: Final = Reply.of(501, "5.5.4", "HOLDFOR and HOLDUNTIL exclude each other")

IDLE: Final = Reply.of(421, "4.4.2", "Timed out waiting for you")
STOPPING: Final = Reply.of(421, "4.3.2", "The service is stopping, please try again later")
OUR_FAULT: Final = Reply.of(451, "4.3.0", "Local error, please try again later")
#: Nobody knows what the part of us that should have answered will do yet.
GIVEN_UP: Final = Reply.of(421, "4.3.0", "Local error, closing")
NO_ROOM: Final = Reply.of(452, "4.3.1", "Insufficient system storage, please try again later")
HEADER_TOO_LARGE: Final = Reply.of(552, "5.3.4", "The header section is too large")
TOO_MANY_HOPS: Final = Reply.of(554, "5.4.6", "Too many Received fields: the message is looping")
