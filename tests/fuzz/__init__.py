"""Bodies that no sender would write, through a real handler: ``make fuzz``; a short form is part of ``make test``."""
