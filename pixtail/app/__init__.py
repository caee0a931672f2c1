"""The program: command line, wiring of the stations, doctor, demo. The only folder that knows them all."""
