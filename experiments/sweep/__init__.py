"""One setting in steps: when does which method pay?"""
