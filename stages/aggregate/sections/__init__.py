"""The sections of the report: what each shows of the runs, as tables and figures. They import no other stage."""
