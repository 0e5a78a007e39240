"""Parts that several tests share: an LM stub that counts, and a caller that speaks raw AMQP."""
